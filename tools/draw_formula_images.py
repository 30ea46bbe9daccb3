"""Images drawn by formula: the whole training set of the bundled backbone, with nothing downloaded.

A class is a small set of numbers (stroke ends, wave lengths, map coefficients, palettes) drawn once from a
generator seeded by the class number. An image of the class varies those numbers with a generator seeded by
(class, instance). The same pair gives the same image wherever NumPy and Pillow have the same versions.

    families    classes   what a class fixes
    strokes     160       two to four curved pen strokes on one glyph
    shapes      40        a composition of polygons, stars and circles
    fractals    40        two to four affine maps of an iterated function system
    waves       30        wave lengths, relative angles and how the waves are combined
    clouds      30        noise spectrum, its fold, and a palette
    fields      40        a map seen from above: cell layout, furrows, roads, blocks, and a palette
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from formula_line_art import fractals, shapes, strokes
from formula_textures import SIZE, Array, Random, clouds, fields, waves
from PIL import Image, ImageFilter

SEED = 20_261


class Family(NamedTuple):
    """One drawing function, how many classes it has, and whether a mirror image keeps its class."""

    draw: Callable[[Random, Random], Array]
    classes: int
    flips: bool
    coarse: float  # share of its images that are scanned at a few pixels and scaled up again


FAMILIES = (
    Family(strokes, 160, flips=False, coarse=0.5),
    Family(shapes, 40, flips=False, coarse=0.2),
    Family(fractals, 40, flips=False, coarse=0.0),
    Family(waves, 30, flips=False, coarse=0.0),
    Family(clouds, 30, flips=False, coarse=0.0),
    Family(fields, 40, flips=True, coarse=0.0),
)
CLASSES = sum(family.classes for family in FAMILIES)
FAMILY_OF = [family for family in FAMILIES for _ in range(family.classes)]  # class number -> family


def draw(label: int, instance: int) -> Array:
    """Image number `instance` of class `label`. [96, 96, 3] uint8"""
    family, rng = FAMILY_OF[label], np.random.default_rng([SEED, label, instance])
    picture = family.draw(np.random.default_rng([SEED, label]), rng)
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    if rng.random() < family.coarse:
        few = int(rng.integers(8, 17))
        image = image.resize((few, few), Image.Resampling.BOX).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    elif rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.0)))
    grain = rng.normal(0, rng.uniform(0, 6), (SIZE, SIZE, 1)) if rng.random() < 0.5 else 0.0
    return np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)


def contact_sheet(rows: int = 4, columns: int = 8, shown: int = 64) -> Image.Image:
    """A few images of every family side by side, in 256 colours to keep the file small."""
    sheet = Image.new("RGB", (columns * shown, rows * shown))
    labels = np.linspace(0, CLASSES - 1, rows * columns).astype(int)
    for place_number, label in enumerate(labels):
        row, column = divmod(place_number, columns)
        tile = Image.fromarray(draw(int(label), instance=2)).resize((shown, shown), Image.Resampling.BOX)
        sheet.paste(tile, (column * shown, row * shown))
    return sheet.quantize(256)
