"""Tensors of many images in one safetensors file, written batch by batch and read through a memory map.

The library writes only what fits into memory, so the head is written here, as the format's page says: eight
bytes with the length of a JSON text, the text with type, shape and place of every tensor, the tensors.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitrim.writing import whole_file

KEY = "vitrim-kept"
TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
ALIGNED = 64  # bytes, where each tensor begins

Rows = Mapping[str, Tensor]  # [images, ...] each


def bytes_of(like: Rows, images: int) -> int:
    """What the rows of so many images take; `like` holds some of them."""
    return sum(images * _row(value) for value in like.values())


def _row(value: Tensor) -> int:
    return value[0].numel() * value.element_size()


def check_room(folder: Path, needed: int, what: str) -> None:
    """Refuse what the disk does not hold."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{what} would take {needed / 2**20:,.1f} MiB, but the disk of {folder} has "
            f"{free / 2**20:,.1f} MiB free; make room and resume, or start anew without it"
        )


def write_rows(path: Path, key: str, images: int, batches: Iterable[Rows]) -> None:
    """Write the rows of all images, in order; the file appears when all are there. `key` says what they are
    of.

    Raises:
        ValueError: if the batches hold other than `images` rows.
    """
    with whole_file(path) as stream:
        places: dict[str, int] = {}
        done = 0
        for batch in batches:
            if not places:
                places = _begin(stream, key, images, batch)
            for name, value in batch.items():
                stream.seek(places[name] + done * _row(value))
                stream.write(value.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            done += len(next(iter(batch.values())))
        if done != images:
            raise ValueError(f"{path} was to hold {images:,} images, but {done:,} came")


def _begin(stream: BinaryIO, key: str, images: int, like: Rows) -> dict[str, int]:
    """Write the head, and take the room on the disk; where each tensor begins."""
    head: dict[str, object] = {"__metadata__": {KEY: key}}
    places, at = {}, 0
    for name, value in sorted(like.items(), key=lambda item: -item[1].element_size()):  # so each is aligned
        ends = at + images * _row(value)
        shape = [images, *value.shape[1:]]
        head[name] = {"dtype": TYPES[value.dtype], "shape": shape, "data_offsets": [at, ends]}
        places[name], at = at, ends
    text = json.dumps(head).encode()
    text += b" " * (-(8 + len(text)) % ALIGNED)
    start = 8 + len(text)
    stream.write(len(text).to_bytes(8, "little") + text)
    stream.flush()
    _take_room(stream, start + at)
    return {name: start + place for name, place in places.items()}


def _take_room(stream: BinaryIO, size: int) -> None:
    """Let a full disk be met now rather than in an hour; some file systems cannot say."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
                raise


def read_rows(path: Path, key: str) -> dict[str, Tensor] | None:
    """The rows of a file with this key, mapped into memory; None where there is none, or another."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get(KEY) != key:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except (SafetensorError, OSError):
        return None
