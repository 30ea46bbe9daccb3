"""A contact sheet: a few images of each class on one picture, as a model's loader reads them."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from vitrim.data.images import ImageError
from vitrim.data.source import DataSource, Split
from vitrim.data.splitting import by_class

ROWS, COLUMNS = 12, 8  # classes, and images of each
SIDE = 96  # pixels of an image


def draw_sheet(data: DataSource, file: Path) -> Path:
    """Draw the first split (train, as a rule) and write the picture whole."""
    from matplotlib.figure import Figure

    from vitrim.run_folder import writing
    from vitrim.saving import write_whole

    name, split = next(iter(data.splits.items()))
    groups = by_class(split)
    labels = _spread(sorted(groups), ROWS)
    width = 1.9 + 0.85 * COLUMNS
    figure = Figure(figsize=(width, 0.85 * len(labels) + 0.45), dpi=120)
    grid = figure.subplots(len(labels), COLUMNS, squeeze=False)
    figure.subplots_adjust(
        left=1.9 / width,
        right=0.995,
        top=1 - 0.36 / (0.85 * len(labels) + 0.45),
        bottom=0.005,
        wspace=0.04,
        hspace=0.04,
    )
    for row, label in zip(grid, labels, strict=True):
        places = _spread(groups[label], COLUMNS)
        for column, cell in enumerate(row):
            cell.set_axis_off()
            if column < len(places):
                _draw(cell, split, places[column])
        title = f"{_short(data.classes[label])}\n{len(groups[label]):,} images"
        place = row[0].get_position(original=True)  # the whole cell, also where an image fills less
        figure.text(place.x0 - 0.01, (place.y0 + place.y1) / 2, title, ha="right", va="center", fontsize=8)
    shown = "" if len(labels) == len(data.classes) else f", {len(labels)} of {len(data.classes)} classes"
    called = data.spec if len(data.spec) <= 70 else "..." + data.spec[-67:]
    figure.suptitle(f"{called}: {name}, {len(split):,} images{shown}", fontsize=10, y=0.995, va="top")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, picture.getvalue())
    return file


def _draw(cell: object, split: Split, place: int) -> None:
    try:
        image = split.read(split.names[place], SIDE)
    except ImageError:
        cell.text(0.5, 0.5, "cannot\nbe read", ha="center", va="center", fontsize=7, color="firebrick")  # type: ignore[attr-defined]
        return
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    cell.imshow(image, interpolation="nearest")  # type: ignore[attr-defined]


def _spread(values: Sequence[int], count: int) -> list[int]:
    """At most `count` values, evenly spread over the sequence."""
    if len(values) <= count:
        return list(values)
    return [values[round(step * (len(values) - 1) / (count - 1))] for step in range(count)]


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:22] + "..."
