"""Tensors of the Open Inference Protocol: in JSON, flat or nested, or as bytes after it.

The extension `binary_tensor_data` puts a tensor's bytes behind the JSON, little-endian and row-major; texts
and image files carry their length before them, in four bytes. The header Inference-Header-Content-Length says
where the JSON ends.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

from vitrim.deploy.serving.bodies import from_base64, json_object
from vitrim.deploy.serving.refusal import Refusal
from vitrim.reading import short

HEADER_LENGTH = "Inference-Header-Content-Length"
MOST_DIMENSIONS = 8
LARGEST_SIDE = 2**31

Values = Tensor | Sequence[str]
"""FP32 values, or texts"""


@dataclass(frozen=True)
class Asked:
    """An inference request: one input, and which outputs are wanted in which form."""

    id: str | None
    datatype: str
    shape: tuple[int, ...]
    data: Any
    """what JSON holds; bytes where the input came binary"""
    outputs: Mapping[str, bool] | None
    """name, and whether binary; None: all"""
    all_binary: bool


def read_request(body: bytes, header_length: str | None) -> Asked:
    """The request in a body, its values not looked at yet."""
    end = len(body) if header_length is None else _length(header_length, len(body))
    given, rest = json_object(body[:end]), body[end:]
    inputs = given.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refusal(400, f'"inputs" must be a list of the one input "images", got {short(inputs)}')
    one = inputs[0]
    if one.get("name") != "images":
        raise Refusal(400, f'the input is called "images", got {short(one.get("name"))}')
    size = _parameters(one).get("binary_data_size")
    if size is not None and size != len(rest):
        raise Refusal(400, f"binary_data_size is {short(size)}, but {len(rest):,} bytes follow the JSON")
    if size is None and rest:
        raise Refusal(400, f"{len(rest):,} bytes follow the JSON, but the input has no binary_data_size")
    name = given.get("id")
    if name is not None and not isinstance(name, str):
        raise Refusal(400, f'"id" must be a text, got {short(name)}')
    return Asked(
        id=name,
        datatype=_text(one, "datatype"),
        shape=_shape(one.get("shape")),
        data=rest if size is not None else one.get("data"),
        outputs=_outputs(given.get("outputs")),
        all_binary=_parameters(given).get("binary_data_output") is True,
    )


def images_in(asked: Asked, wanted: tuple[int, int, int]) -> Tensor:
    """Normalised images [B, C, height, width] of an FP32 input."""
    if len(asked.shape) != 4 or asked.shape[1:] != wanted or asked.shape[0] < 1:
        raise Refusal(
            400,
            f"FP32 images must have the shape [-1, {', '.join(map(str, wanted))}], got {list(asked.shape)}",
        )
    if isinstance(asked.data, bytes):
        if len(asked.data) != 4 * math.prod(asked.shape):
            raise Refusal(400, f"{list(asked.shape)} values of FP32 do not take {len(asked.data):,} bytes")
        values = numpy.frombuffer(asked.data, "<f4").astype(numpy.float32)
    else:
        values = _numbers(asked.data)
    if values.size != math.prod(asked.shape):
        raise Refusal(400, f"the shape {list(asked.shape)} does not fit its {values.size:,} values")
    if not numpy.isfinite(values).all():
        raise Refusal(400, "images must hold finite numbers of FP32")
    return torch.from_numpy(values.reshape(asked.shape))


def files_in(asked: Asked) -> list[bytes]:
    """Image files of a BYTES input."""
    count = asked.shape[0] if len(asked.shape) == 1 else 0
    if count < 1:
        raise Refusal(400, f"BYTES images must have the shape [-1], got {list(asked.shape)}")
    if isinstance(asked.data, bytes):
        files = _cut(asked.data)
    elif isinstance(asked.data, list):
        files = [from_base64(text, f"image {index}") for index, text in enumerate(asked.data)]
    else:
        raise Refusal(400, f'"data" must be a list of base64 texts, got {short(asked.data)}')
    if len(files) != count:
        raise Refusal(400, f"the shape {list(asked.shape)} does not fit its {len(files):,} images")
    return files


def write_answer(
    about: Mapping[str, Any], outputs: Mapping[str, Values], asked: Asked
) -> tuple[bytes, Mapping[str, str]]:
    """The body of an answer, and its headers."""
    wanted = asked.outputs if asked.outputs is not None else dict.fromkeys(outputs, False)
    for name in wanted:
        if name not in outputs:
            raise Refusal(400, f"there is no output {short(name)}; there are {', '.join(outputs)}")
    described, binary = [], bytearray()
    for name, as_bytes in wanted.items():
        values = outputs[name]
        shape = list(values.shape) if isinstance(values, Tensor) else [len(values)]
        kind = "FP32" if isinstance(values, Tensor) else "BYTES"
        one: dict[str, Any] = {"name": name, "datatype": kind, "shape": shape}
        if as_bytes or asked.all_binary:
            packed = _packed(values)
            binary += packed
            one["parameters"] = {"binary_data_size": len(packed)}
        else:
            one["data"] = values.flatten().tolist() if isinstance(values, Tensor) else list(values)
        described.append(one)
    head = json.dumps(
        {**about, **({"id": asked.id} if asked.id is not None else {}), "outputs": described}
    ).encode()
    if not binary:
        return head, {"content-type": "application/json"}
    return head + bytes(binary), {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}


def _packed(values: Values) -> bytes:
    if isinstance(values, Tensor):
        return values.numpy().astype("<f4").tobytes()
    texts = [text.encode() for text in values]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _cut(packed: bytes) -> list[bytes]:
    """Pieces that carry their length before them."""
    pieces, place = [], 0
    while place < len(packed):
        length = int.from_bytes(packed[place : place + 4], "little")
        piece = packed[place + 4 : place + 4 + length]
        if place + 4 > len(packed) or len(piece) < length:
            raise Refusal(400, "the bytes after the JSON end inside an image")
        pieces.append(piece)
        place += 4 + length
    return pieces


def _numbers(data: object) -> numpy.ndarray:
    try:
        values = numpy.asarray(data)
    except (ValueError, OverflowError):  # lists of different lengths
        values = numpy.empty(0, dtype=object)
    if values.dtype.kind not in "iuf" or not isinstance(data, list):
        raise Refusal(400, f'"data" of FP32 must be numbers, flat or nested evenly, got {short(data)}')
    with numpy.errstate(over="ignore"):  # what is too large for FP32 becomes infinite, and is refused
        return values.astype(numpy.float32).ravel()


def _outputs(given: object) -> dict[str, bool] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise Refusal(400, f'"outputs" must be a list of objects with a name, got {short(given)}')
    return {_text(one, "name"): _parameters(one).get("binary_data") is True for one in given}


def _parameters(given: Mapping[str, Any]) -> Mapping[str, Any]:
    found = given.get("parameters") or {}
    if not isinstance(found, dict):
        raise Refusal(400, f'"parameters" must be an object, got {short(found)}')
    return found


def _text(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str):
        raise Refusal(400, f"{key!r} must be a text, got {short(value)}")
    return value


def _shape(given: object) -> tuple[int, ...]:
    fits = isinstance(given, list) and len(given) <= MOST_DIMENSIONS
    if not fits or not all(type(side) is int and 0 <= side < LARGEST_SIDE for side in given):  # type: ignore[attr-defined]
        raise Refusal(400, f'"shape" must be a list of whole numbers, got {short(given)}')
    return tuple(given)  # type: ignore[arg-type]


def _length(header: str, most: int) -> int:
    length = int(header[:20]) if header.isascii() and header.isdecimal() else most + 1
    if length > most:
        raise Refusal(
            400, f"{HEADER_LENGTH} must be a number of bytes up to the body's {most:,}, got {short(header)}"
        )
    return length
