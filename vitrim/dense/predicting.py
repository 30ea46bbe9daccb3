"""Masks, overlays and outlines of pictures, written beside each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy
from PIL import Image

from vitrim.checks import check_positive
from vitrim.data.images import read_rgb
from vitrim.dense.classes import ClassTable
from vitrim.dense.evaluating import picture_logits
from vitrim.dense.masks import Labels, overlay, png, write_mask
from vitrim.dense.model import DenseModel
from vitrim.writing import write_whole, writing

FORMS = ("mask", "overlay", "polygons")


@dataclass(frozen=True)
class Segmented:
    """What is said of one picture."""

    path: Path
    image: Image.Image
    labels: Labels  # uint8 [height, width]
    table: ClassTable

    def shares(self) -> dict[str, float]:
        """Of the pixels, by class, the most first."""
        counts = numpy.bincount(self.labels.ravel(), minlength=len(self.table))
        found = {
            name: int(count) / self.labels.size for name, count in zip(self.table.names, counts, strict=False)
        }
        return {name: share for name, share in sorted(found.items(), key=lambda pair: -pair[1]) if share}


def segment(
    model: DenseModel, images: Sequence[str | Path], inference: str | None = None, batch_size: int = 16
) -> Iterator[Segmented]:
    """The classes of every pixel, picture by picture."""
    check_positive("segmentation", "batch_size", batch_size)
    model.eval()
    for path in map(Path, images):
        image = read_rgb(path)
        yield Segmented(path, image, labels_of(model, image, inference, batch_size), model.table)


def labels_of(
    model: DenseModel, image: Image.Image, inference: str | None = None, batch_size: int = 16
) -> Labels:
    """The likeliest class of every pixel of a picture, at its own size."""
    logits = picture_logits(model, image, inference, batch_size)
    return logits.argmax(0).numpy().astype(numpy.uint8)


def write_segmented(found: Segmented, out: Path, name: str, forms: Sequence[str] = ("mask",)) -> list[Path]:
    """NAME.png (class numbers under a palette), NAME-overlay.png, NAME.json in a folder."""
    with writing(out):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
    written = []
    if "mask" in forms:
        written.append(out / f"{name}.png")
        write_mask(written[-1], found.labels, found.table)
    if "overlay" in forms:
        written.append(out / f"{name}-overlay.png")
        write_whole(written[-1], png(overlay(found.image, found.labels, found.table)))
    if "polygons" in forms:
        written.append(out / f"{name}.json")
        told = {
            "image": str(found.path),
            "size": list(found.labels.shape),
            "objects": polygons(found.labels, found.table),
        }
        write_whole(written[-1], (json.dumps(told) + "\n").encode())
    return written


def polygons(labels: Labels, table: ClassTable) -> list[dict[str, Any]]:
    """Outlines of every connected region, as [x, y] in pixels from the upper left corner of the picture: the
    outer one and those of its holes."""
    from contourpy import FillType, contour_generator

    objects = []
    for number, name in enumerate(table.names):
        mask = numpy.pad(labels == number, 1).astype(numpy.float64)
        if not mask.any():
            continue
        generator = contour_generator(z=mask, fill_type=FillType.OuterOffset)
        points, offsets = cast(tuple[list[Any], list[Any]], generator.filled(0.5, 2.0))
        for corners, parts in zip(points, offsets, strict=True):
            rings = [  # padded by one, and counted from the corner of the picture
                (corners[begin : end - 1] - 0.5).round(2).tolist() for begin, end in pairwise(parts)
            ]
            objects.append({"class": name, "outline": rings[0], "holes": rings[1:]})
    return objects


def names_for(images: Sequence[Path]) -> list[str]:
    """A file name for each picture: its own without ending, with a number where two are the same."""
    met: dict[str, int] = {}
    names = []
    for path in images:
        count = met[path.stem] = met.get(path.stem, 0) + 1
        names.append(path.stem if count == 1 else f"{path.stem}-{count}")
    return names
