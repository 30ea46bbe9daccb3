"""Masks on disk: what their pixels mean, reading them exactly, writing them with a palette.

In memory a mask is uint8 [height, width], classes from 0 and `IGNORE` where there is none.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy
from numpy.typing import NDArray
from PIL import Image

from vitrim.data.images import ImageError, read_stored
from vitrim.dense.classes import IGNORE, ClassTable
from vitrim.writing import write_whole

Labels = NDArray[numpy.uint8]  # [height, width]
UNKNOWN = -1


@dataclass(frozen=True)
class Coding:
    """What the pixels of masks mean.

    Attributes:
        table: the classes.
        values: the class, or `IGNORE`, of a stored number; numbers that are not named are refused.
        white: where masks of two classes are stored as black and white: whether 255 is the second class
            ("class") or no class ("ignore"); "" asks whoever gives such masks to say so.
    """

    table: ClassTable
    values: Mapping[int, int] = field(default_factory=dict)
    white: str = "ignore"

    @staticmethod
    def plain(
        table: ClassTable, ignored: Sequence[int] = (IGNORE,), reduce_zero: bool = False, white: str = ""
    ) -> Coding:
        """Class numbers as they are, or with `reduce_zero` from 1 on, 0 being no class."""
        shift = 1 if reduce_zero else 0
        values = {number + shift: number for number in range(len(table))}
        values |= dict.fromkeys(ignored, IGNORE)
        if reduce_zero:
            values[0] = IGNORE
        return Coding(table, values, white)


def read_mask(path: Path, coding: Coding) -> Labels:
    """A PNG mask: numbers (palette, grey, one bit) or the colours of the class table."""
    if path.suffix.lower() != ".png":
        raise ImageError(f"{path} is no PNG; masks must be stored without loss, save them as PNG")
    image = read_stored(path)
    if image.mode in ("RGB", "RGBA"):
        return _by_colour(numpy.asarray(image.convert("RGB")), coding, path)
    if image.mode == "1":
        return _by_number(numpy.asarray(image).astype(numpy.int64), coding, path)
    if image.mode not in ("L", "P", "I;16", "I"):
        raise ImageError(f"{path} has colour mode {image.mode}; save masks as palette, grey or RGB PNG")
    stored = numpy.asarray(image).astype(numpy.int64)
    if len(coding.table) == 2 and image.mode == "L" and coding.white != "ignore":
        stored = _black_and_white(stored, coding, path)
    return _by_number(stored, coding, path)


def _black_and_white(stored: NDArray[numpy.int64], coding: Coding, path: Path) -> NDArray[numpy.int64]:
    """Masks of 0 and 255 mean two things; which, has to be said."""
    if not numpy.isin(stored, (0, 255)).all() or not (stored == 255).any():
        return stored
    if coding.white == "":
        raise ImageError(
            f"{path} holds 0 and 255 alone: say white=class if 255 is {coding.table.names[1]!r}, or "
            "white=ignore if it is no class"
        )
    return numpy.where(stored == 255, 1, stored)


def _by_number(stored: NDArray[numpy.int64], coding: Coding, path: Path) -> Labels:
    lookup = numpy.full(max(int(stored.max(initial=0)), IGNORE) + 1, UNKNOWN, dtype=numpy.int64)
    for number, label in coding.values.items():
        if number < len(lookup):
            lookup[number] = label
    found = lookup[stored]
    if (found == UNKNOWN).any():
        odd = int(stored[found == UNKNOWN][0])
        known = sorted(number for number, label in coding.values.items() if label != IGNORE)
        none = sorted(number for number, label in coding.values.items() if label == IGNORE)
        raise ImageError(
            f"{path} holds the value {odd}, but classes are {known[0]} to {known[-1]} and no class is "
            f"{' or '.join(map(str, none[:4])) or 'not provided for'}; mend the mask, or name what it means"
        )
    return found.astype(numpy.uint8)


def _by_colour(pixels: NDArray[numpy.uint8], coding: Coding, path: Path) -> Labels:
    packed = (pixels.astype(numpy.int64) * (65536, 256, 1)).sum(-1)  # [height, width]
    found = numpy.full(packed.shape, UNKNOWN, dtype=numpy.int64)
    for number, (red, green, blue) in enumerate(coding.table.colours):
        found[packed == red * 65536 + green * 256 + blue] = number
    free = (255, 255, 255) not in coding.table.colours
    found[(packed == 0xFFFFFF) & free] = IGNORE
    if (found == UNKNOWN).any():
        odd = tuple(int(value) for value in pixels[found == UNKNOWN][0])
        raise ImageError(
            f"{path} has the colour {odd}, which no class has; give every class its colour in classes.txt "
            "(NAME RED GREEN BLUE), or store numbers"
        )
    return found.astype(numpy.uint8)


def palette_image(labels: Labels, table: ClassTable) -> Image.Image:
    """A mask as a palette image: its values are class numbers, its colours those of the table."""
    image = Image.fromarray(numpy.asarray(labels, dtype=numpy.uint8), mode="P")
    image.putpalette(table.palette())
    return image


def write_mask(path: Path, labels: Labels, table: ClassTable) -> None:
    """A palette PNG, whole or not at all."""
    write_whole(path, png(palette_image(labels, table)))


def overlay(image: Image.Image, labels: Labels, table: ClassTable, share: float = 0.5) -> Image.Image:
    """The picture under the colours of its classes; pixels without a class stay as they are."""
    colours = numpy.array([*table.colours, *[(0, 0, 0)] * (256 - len(table))], dtype=numpy.float64)
    pixels = numpy.asarray(image.convert("RGB"), dtype=numpy.float64)
    mixed = (1 - share) * pixels + share * colours[labels]
    kept = (labels == IGNORE)[..., None]
    return Image.fromarray(numpy.where(kept, pixels, mixed).round().astype(numpy.uint8))


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
