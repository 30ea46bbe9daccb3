"""What a user may hand over as images, one after the other: files, folders, encoded bytes, pictures in
memory.

Pictures are looked for as they are needed: the first of a folder of a million is there before the walk ends,
and so is the first of a generator. Whatever it came as, a picture becomes the same upright RGB.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy
import torch
from PIL import Image
from torch import Tensor

from vitrim.data.band_files import picture_bands
from vitrim.data.bands import Bands
from vitrim.data.finding import EXTENSIONS, FORMATS, walk_pictures
from vitrim.data.images import (
    AS_RGB,
    ImageError,
    MissingImageError,
    Picture,
    decode_image,
    read_image,
    turned,
    upright_rgb,
)

OneImage: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | numpy.ndarray | Tensor"
GivenImages: TypeAlias = "OneImage | Iterable[OneImage]"
Found = tuple[
    str, "Path | bytes | Image.Image | NoPicture"
]  # what messages and results call it, and where its pixels are

TAKEN = (
    "paths of files and folders, bytes of an image file, PIL images, arrays [height, width, 3] or "
    "[height, width] "
    "of uint8, tensors [3, height, width] of uint8, arrays of more channels where the model takes them, and "
    "lists of these"
)


class NoPicture(NamedTuple):
    """An array in memory that only a model of other than 1 or 3 channels can take."""

    bands: Bands
    refusal: str
    """what the others say to it"""


def each_image(images: GivenImages, unread: Counter[str] | None = None) -> Iterator[Found]:
    """Every image given, folders replaced by the pictures below them.

    What can be refused at once is refused here; the rest when its turn comes.
    """
    if _is_one(images):
        things: Iterable[object] = [images]
    elif isinstance(images, Iterable) and not isinstance(images, (str, bytes, Mapping)):
        things = images
    else:
        raise ValueError(f"images cannot be {_kind(images)}; predict takes {TAKEN}")
    if isinstance(things, Sequence):
        if not things:
            raise ValueError("no images were given; name image files or a folder of them")
        for thing in things:
            if isinstance(thing, (str, os.PathLike)):
                _check_there(Path(thing))
    return _each(things, unread)


def _each(things: Iterable[object], unread: Counter[str] | None) -> Iterator[Found]:
    number = -1
    for number, thing in enumerate(things):
        called = f"image {number}"
        if isinstance(thing, (str, os.PathLike)):
            yield from _on_disk(Path(thing), unread)
        elif isinstance(thing, (bytes, bytearray, memoryview)):
            yield called, bytes(thing)
        elif isinstance(thing, io.IOBase):
            content = thing.read()
            if not isinstance(content, bytes):
                raise ValueError(f"{called} is a file opened as text; open it with mode 'rb'")
            yield called, content
        elif isinstance(thing, Image.Image):
            yield called, _loaded(thing, called)
        elif isinstance(thing, numpy.ndarray):
            yield called, _from_array(thing, called)
        elif isinstance(thing, Tensor):
            yield called, _from_tensor(thing, called)
        else:
            raise ValueError(f"{called} is {_kind(thing)}; predict takes {TAKEN}")
    if number < 0:
        raise ValueError("no images were given; name image files or a folder of them")


def _is_one(thing: object) -> bool:
    one = (str, os.PathLike, bytes, bytearray, memoryview, io.IOBase, Image.Image, numpy.ndarray, Tensor)
    return isinstance(thing, one)


def _check_there(path: Path) -> None:
    if not os.path.lexists(path):  # a link to nowhere is the reader's to explain
        raise MissingImageError(f"there is no image {path}")


def _on_disk(path: Path, unread: Counter[str] | None) -> Iterator[Found]:
    _check_there(path)
    if not path.is_dir():
        yield str(path), path
        return
    found = False
    for picture in walk_pictures(path, unread):
        found = True
        yield str(picture), picture
    if not found:
        raise FileNotFoundError(f"the folder {path} holds no pictures ({', '.join(sorted(EXTENSIONS))})")


def read_found(found: Found, at_least: int | None = None, channels: int = 3) -> Picture:
    """The pixels of one image as upright RGB, or its channels; arguments as for `read_image`."""
    called, source = found
    if isinstance(source, Path):
        return read_image(source, at_least, channels)
    if isinstance(source, bytes):
        return decode_image(io.BytesIO(source), called, at_least, channels)
    if isinstance(source, NoPicture):
        if channels in AS_RGB:
            raise ValueError(source.refusal)
        return source.bands
    return upright_rgb(source, called) if channels in AS_RGB else picture_bands(turned(source), called)


def _loaded(image: Image.Image, called: str) -> Image.Image:
    """An image that somebody opened with Pillow, decoded here: two threads must not decode the same one."""
    if image.format is not None and image.format not in (*FORMATS, "MPO"):
        raise ImageError(
            f"{called} was opened from a {image.format} file, which vitrim does not decode; "
            "convert it yourself: "
            "image.convert('RGB')"
        )
    try:
        image.load()
    except Exception as error:  # decoders raise anything
        raise ImageError(f"{called} is damaged or cut short ({' '.join(str(error).split())})") from error
    return image


def _from_array(array: numpy.ndarray, called: str) -> Image.Image | NoPicture:
    colours = array.ndim == 3 and array.shape[2] in (1, 3, 4)
    if array.dtype != numpy.uint8 or not (array.ndim == 2 or colours) or 0 in array.shape:
        return _no_picture(
            array,
            called,
            f"{called} is an array {list(array.shape)} of {array.dtype}; give [height, width, 3] or "
            f"[height, width] of uint8, 0 to 255{_hint(array.ndim, array.shape)}",
        )
    return Image.fromarray(
        array[..., 0] if colours and array.shape[2] == 1 else numpy.ascontiguousarray(array)
    )


def _from_tensor(tensor: Tensor, called: str) -> Image.Image | NoPicture:
    colours = tensor.ndim == 3 and tensor.shape[0] in (1, 3, 4)
    if tensor.dtype != torch.uint8 or not (tensor.ndim == 2 or colours) or 0 in tensor.shape:
        hint = "; a batch that is normalised already goes to the model itself: model(images)"
        refusal = (
            f"{called} is a tensor {list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}; give "
            f"[3, height, width] or [height, width] of uint8, 0 to 255"
            f"{hint if tensor.is_floating_point() else _hint(tensor.ndim, tensor.shape)}"
        )
        values = tensor.detach().cpu()
        return _no_picture(
            (values.float() if values.is_floating_point() else values).numpy(), called, refusal
        )
    pixels = tensor.detach().cpu()
    pixels = pixels.permute(1, 2, 0) if colours else pixels  # [height, width, channels]
    return _from_array(pixels.numpy(), called)


def _no_picture(array: numpy.ndarray, called: str, refusal: str) -> NoPicture:
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(refusal)
    return NoPicture(Bands(array, called), refusal)


def _hint(dimensions: int, shape: Sequence[int]) -> str:
    if dimensions == 4:
        return "; several at once go into a list: list(images)"
    return (
        "; channels stand first in tensors and last in arrays" if dimensions == 3 and 0 not in shape else ""
    )


def _kind(thing: object) -> str:
    name = type(thing).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}" if thing is not None else "None"
