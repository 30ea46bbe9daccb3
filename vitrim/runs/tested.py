"""Which pictures a finished run classified correctly, in `tested.json` of its folder: one bit each.

Two runs that were tested on the same pictures can then be compared picture by picture, which shows far
smaller differences than two percentages do. Runs of earlier versions have no such file.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Protocol

import numpy

from vitrim.data.source import DataSource
from vitrim.reading import read_json
from vitrim.writing import write_whole

FILE = "tested.json"
FORMAT = 1
ENDS = 65_536  # bytes of a video that are looked at, at each end
BY_CONTENT = "content:"  # before digests that look into the files; earlier ones knew names alone


@dataclass(frozen=True)
class TestedPictures:
    """What was right, picture by picture, and which pictures these were."""

    split: str
    pictures: str
    """digest of classes, names, contents and labels"""
    right: tuple[bool, ...]


def digest_of(source: DataSource, split: str) -> str:
    """Tells whether two runs saw the same pictures with the same labels, wherever the folder lies: by the
    content of the files, or by the data's own name and number where a picture is no file of its own.
    """
    images = source.split(split)
    content = [_content(source, name) for name in images.names]
    names = [Path(name).as_posix() for name in images.names]
    above = os.path.commonpath(names) if all(name.startswith("/") for name in names) else ""
    if above:
        names = [os.path.relpath(name, above) for name in names]
    told = json.dumps([list(source.classes), names, content, list(map(_plain, images.labels))])
    return BY_CONTENT + sha256(told.encode()).hexdigest()


def _plain(label: Any) -> Any:
    """A label as JSON writes it: a number, or those of several labels or targets."""
    return (
        label.tolist() if hasattr(label, "tolist") else int(label) if isinstance(label, int) else list(label)
    )


def _content(source: DataSource, name: str) -> str:
    file = Path(name)
    if source.clips is not None:
        return _outline(file)
    if not file.is_file():
        return source.spec.partition("?")[0]
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _outline(clip: Path) -> str:
    """What tells videos apart without reading all of them: the size, the beginning and the end; of a folder
    of frames their names and sizes.
    """
    if clip.is_dir():
        frames = sorted((entry.name, entry.stat().st_size) for entry in clip.iterdir() if entry.is_file())
        return sha256(json.dumps(frames).encode()).hexdigest()
    if not clip.is_file():
        return "absent"
    size = clip.stat().st_size
    with clip.open("rb") as stream:
        told = stream.read(ENDS)
        stream.seek(max(ENDS, size - ENDS))
        told += stream.read(ENDS)
    return sha256(str(size).encode() + told).hexdigest()


class Remembered(Protocol):
    """Whatever a run keeps picture by picture."""

    @property
    def split(self) -> str: ...

    @property
    def pictures(self) -> str: ...


def differs(tested: Remembered | None, source: DataSource, split: str) -> bool:
    """Whether a split holds other pictures than the run was tested on, as far as that is known."""
    if tested is None or tested.split != split or not tested.pictures.startswith(BY_CONTENT):
        return False
    return tested.pictures != digest_of(source, split)


def write_tested(folder: Path, tested: TestedPictures) -> None:
    bits = numpy.packbits(numpy.array(tested.right, dtype=bool)).tobytes()
    stored = {
        "format": FORMAT,
        "split": tested.split,
        "images": len(tested.right),
        "pictures": tested.pictures,
        "right": base64.b64encode(bits).decode(),
    }
    write_whole(folder / FILE, (json.dumps(stored) + "\n").encode())


def read_tested(folder: Path) -> TestedPictures | None:
    """What a run folder holds; None where there is none, as in runs of earlier versions.

    Raises:
        ValueError: for a file that is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    from vitrim.runs.beside import Tested

    stored = read_json(file, Tested)
    count, split, pictures = stored["images"], stored["split"], stored["pictures"]
    try:
        bits = base64.b64decode(stored["right"], validate=True)
    except (ValueError, binascii.Error):
        bits = b""
    if len(bits) != -(-count // 8):
        raise ValueError(
            f"{file} is damaged and cannot be read: its right does not hold one bit for each of its {count} "
            "images; vitrim evaluate measures the run again"
        )
    right = numpy.unpackbits(numpy.frombuffer(bits, dtype=numpy.uint8), count=count)
    return TestedPictures(split, pictures, tuple(map(bool, right)))


def right_alone(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int]:
    """How many pictures only the first and only the second got right."""
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    return only_first, only_second
