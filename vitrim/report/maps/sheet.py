"""Several captioned pictures beside each other as one figure, and a single one as bytes for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy
from matplotlib.figure import Figure
from PIL import Image, features

from vitrim.report.chart import LIGHT, Theme, safe
from vitrim.report.maps.pixels import Pixels

Panel = tuple[str, Pixels]


def sheet(title: str, rows: Sequence[Sequence[Panel]], theme: Theme = LIGHT) -> Figure:
    """A figure with one row of pictures for each row of panels; captions above."""
    columns = max(map(len, rows))
    tallest = max(pixels.shape[0] / pixels.shape[1] for row in rows for _, pixels in row)
    size = 2.1 * columns, (2.1 * tallest + 0.45) * len(rows) + 0.4
    figure = Figure(figsize=size, layout="constrained", facecolor=theme.paper)
    figure.suptitle(safe(title, 140), fontsize=10, color=theme.ink)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for cell in line:
            cell.set_axis_off()
        for cell, (caption, pixels) in zip(line, row, strict=False):
            cell.imshow(pixels, interpolation="nearest")
            cell.set_title(caption, fontsize=8, color=theme.ink)
    return figure


def to_image(pixels: Pixels, most: int | None = None) -> Image.Image:
    """A picture, no side longer than `most` pixels."""
    image = Image.fromarray((pixels.clip(0, 1) * 255).round().astype(numpy.uint8))
    if most is not None and max(image.size) > most:
        image.thumbnail((most, most), Image.Resampling.LANCZOS)
    return image


def embedded(pixels: Pixels, most: int | None = None) -> str:
    """A picture as the address of an `img` that needs no file: WebP, where Pillow was built with it."""
    form = "WEBP" if features.check("webp") else "JPEG"
    stream = io.BytesIO()
    to_image(pixels, most).save(stream, form, quality=78)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
