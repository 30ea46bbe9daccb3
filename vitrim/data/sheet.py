"""A contact sheet: a few images of each class on one picture, as a model's loader reads them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from vitrim.data.bands import Bands
from vitrim.data.clips.reader import ClipReader
from vitrim.data.images import ImageError
from vitrim.data.source import DataSource, Split
from vitrim.data.splitting import by_class

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS, COLUMNS = 12, 8  # classes, and images of each
SIDE = 96  # pixels of an image
CELL, LEFT, TOP = 0.85, 1.9, 0.45  # inches: a cell, the names on the left, the title


def draw_sheet(data: DataSource, file: Path) -> Path:
    """Draw the first split (train, as a rule) and write the picture whole."""
    from matplotlib.figure import Figure

    name, split = next(iter(data.splits.items()))
    groups = by_class(split)
    labels = _spread(sorted(groups), ROWS)
    width, height = LEFT + CELL * COLUMNS, TOP + CELL * len(labels)
    figure = Figure(figsize=(width, height), dpi=120)
    grid = figure.subplots(len(labels), COLUMNS, squeeze=False)
    figure.subplots_adjust(LEFT / width, 0.005, 0.995, 1 - 0.8 * TOP / height, wspace=0.04, hspace=0.04)
    for row, label in zip(grid, labels, strict=True):
        places = _spread(groups[label], COLUMNS)
        for column, cell in enumerate(row):
            cell.set_axis_off()
            if column < len(places):
                _draw(cell, split, places[column])
        called = _short(data.classes[label]) if data.task == "classify" else "all"
        title = f"{called}\n{len(groups[label]):,} {split.called}"
        place = row[0].get_position(original=True)  # the whole cell, also where an image fills less
        figure.text(place.x0 - 0.01, (place.y0 + place.y1) / 2, title, ha="right", va="center", fontsize=8)
    whole = len(labels) == len(data.classes) or data.task != "classify"
    shown = "" if whole else f", {len(labels)} of {len(data.classes)} classes"
    called = data.spec if len(data.spec) <= 70 else "..." + data.spec[-67:]
    figure.suptitle(f"{called}: {name}, {len(split):,} {split.called}{shown}", fontsize=10, y=0.995, va="top")
    _write(figure, file)
    return file


def _write(figure: "Figure", file: Path) -> None:
    from vitrim.writing import write_whole, writing

    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, picture.getvalue())


def _draw(cell: object, split: Split, place: int) -> None:
    try:
        image = _picture(split, split.names[place])
    except ImageError:
        cell.text(0.5, 0.5, "cannot\nbe read", ha="center", va="center", fontsize=7, color="firebrick")  # type: ignore[attr-defined]
        return
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    cell.imshow(image, interpolation="nearest")  # type: ignore[attr-defined]


def _picture(split: Split, name: str) -> Image.Image:
    """The image; of a clip four frames from its first to its last, row by row."""
    if not isinstance(split.read, ClipReader):
        image = split.read(name, SIDE)
        return image.shown() if isinstance(image, Bands) else image
    frames = split.read.frames(name, lambda count: [round(part * (count - 1) / 3) for part in range(4)], SIDE)
    width, height = frames[0].size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for place, frame in enumerate(frames):
        sheet.paste(frame, (place % 2 * width, place // 2 * height))
    return sheet


def _spread(values: Sequence[int], count: int) -> list[int]:
    """At most `count` values, evenly spread over the sequence."""
    if len(values) <= count:
        return list(values)
    return [values[round(step * (len(values) - 1) / (count - 1))] for step in range(count)]


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:22] + "..."
