"""`coco:PATH`: COCO's instance files as semantic masks: background and one class for each category.

    PATH/instances.json and PATH/images/, or PATH/annotations/instances_train2017.json and PATH/train2017/
    (or PATH/images/train2017/), val2017 alike. A single file is split by the seed.

Smaller objects lie over larger ones; crowds have the class of what they are crowds of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from PIL import Image, ImageDraw

from vitrim.data.source import Spec
from vitrim.dense.classes import ClassTable
from vitrim.dense.masks import Labels
from vitrim.dense.pairing import folder, held_out
from vitrim.dense.source import DenseData, DenseSplit, with_trainval
from vitrim.reading import loose_json, text_of

MOST_BYTES = 2 * 2**30
MOST_PIXELS = 2**28  # of a mask


@dataclass(frozen=True)
class Outlines:
    """The objects of one picture: (class, polygons or runs), the largest first."""

    size: tuple[int, int]  # height, width
    objects: tuple[tuple[int, Any], ...]


def open_coco(spec: Spec) -> DenseData:
    """Instances as semantic masks."""
    spec.allow("seed")
    if not spec.rest:
        raise ValueError("coco needs the folder of your copy: coco:PATH")
    place = folder(spec.rooted(spec.rest), "coco")
    single = place / "instances.json"
    if single.is_file():
        table, images, masks = _read(single, folder(place / "images", "coco"))
        seed = spec.integer("seed", spec.seed)
        parts = held_out(images, seed)
        splits = {
            name: DenseSplit(list(part.values()), [masks[key] for key in part], drawn)
            for name, part in parts.items()
        }
        note = f"it comes without a split: 70 / 10 / 20 by seed {seed}"
        return DenseData(str(spec.with_options(seed=seed)), table, with_trainval(splits), (note,))
    splits, tables = {}, []
    for name in ("train", "val"):
        file = place / "annotations" / f"instances_{name}2017.json"
        if not file.is_file():
            raise FileNotFoundError(f"coco needs {single} or {file}, and neither is there")
        inside = place / f"{name}2017"
        inside = inside if inside.is_dir() else folder(place / "images" / f"{name}2017", "coco")
        table, images, masks = _read(file, inside)
        tables.append(table)
        splits[name] = DenseSplit(list(images.values()), [masks[key] for key in images], drawn)
    if tables[0] != tables[1]:
        raise ValueError(f"the two instance files in {place / 'annotations'} have different categories")
    return DenseData(str(spec), tables[0], with_trainval(splits))


def _read(file: Path, inside: Path) -> tuple[ClassTable, dict[str, Path], dict[str, Outlines]]:
    stored = loose_json(text_of(file, MOST_BYTES).decode("utf-8", "replace"), str(file))
    try:
        categories = sorted((int(each["id"]), str(each["name"])) for each in stored["categories"])
        number = {identity: place for place, (identity, _) in enumerate(categories, start=1)}
        table = ClassTable(("background", *(name for _, name in categories)))
        objects: dict[int, list[tuple[float, int, Any]]] = defaultdict(list)
        for each in stored["annotations"]:
            found = float(each["area"]), number[int(each["category_id"])], each["segmentation"]
            objects[int(each["image_id"])].append(found)
        images, masks = {}, {}
        for each in stored["images"]:
            name = Path(str(each["file_name"])).name
            key = Path(name).stem
            largest_first = sorted(objects[int(each["id"])], key=lambda one: -one[0])
            shapes = tuple((label, shape) for _, label, shape in largest_first)
            images[key] = inside / name
            masks[key] = Outlines((int(each["height"]), int(each["width"])), shapes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file} is no instance file of COCO's form: {error}") from None
    return table, images, masks


def drawn(outlines: Outlines) -> Labels:
    """The semantic mask of a picture's objects: uint8 [height, width]."""
    height, width = outlines.size
    if not 0 < height * width <= MOST_PIXELS or min(height, width) < 1:
        raise ValueError(f"an instance file says a picture has {width} x {height} pixels")
    mask = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(mask)
    for label, shape in outlines.objects:
        if isinstance(shape, list):
            for ring in shape:
                if len(ring) >= 6 and len(ring) % 2 == 0:  # less than three corners have no inside
                    pen.polygon([float(value) for value in ring], fill=label)
        else:
            mask.paste(label, None, Image.fromarray(_runs(shape, outlines.size)))
    return numpy.asarray(mask)


def _runs(shape: Mapping[str, Any], size: tuple[int, int]) -> Labels:
    """Run lengths down the columns, outside and inside in turn, as 0 and 255."""
    counts = shape.get("counts") if isinstance(shape, Mapping) else None
    if not isinstance(counts, Sequence) or isinstance(counts, str):
        raise ValueError(
            "an object's outline is neither polygons nor a list of run lengths; compressed run lengths are "
            "not read, decode them with pycocotools first"
        )
    inside = numpy.repeat(numpy.arange(len(counts)) % 2, numpy.asarray(counts, dtype=numpy.int64))
    if inside.size != size[0] * size[1]:
        raise ValueError(f"run lengths come to {inside.size} pixels, but the picture has {size[0] * size[1]}")
    return (255 * inside.reshape(size, order="F")).astype(numpy.uint8)
