"""Which class was taken for which, readable with two classes and with hundreds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from matplotlib.axes import Axes

from vitrim.report.chart import Cell, Chart, Theme, plain, safe

WRITTEN = 12  # classes up to which every cell carries its number
NAMED = 40  # classes up to which every row carries its name


def most_confused(
    names: Sequence[str], confusion: Sequence[Sequence[int]], count: int = 12
) -> list[tuple[str, str, int]]:
    """The pairs taken for each other most: true class, class given, pictures."""
    pairs = [
        (names[true], names[given], number)
        for true, row in enumerate(confusion)
        for given, number in enumerate(row)
        if number and true != given
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:count]


def confusion_map(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> Chart:
    """Rows are true classes, columns those given; a cell's shade is its share of the row."""
    table = numpy.array(confusion, dtype=float)
    shares = table / numpy.maximum(table.sum(1, keepdims=True), 1)
    count = len(names)
    columns: tuple[str, ...] = ("true class", *names)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, *map(int, row)) for name, row in zip(names, confusion, strict=True)
    )
    if count > NAMED:  # a table as wide as that helps nobody
        columns, rows = (
            ("true class", "class given", "pictures"),
            tuple(most_confused(names, confusion, count**2)),
        )
    side = 4.4 if count <= NAMED else 6.0
    words = (
        "Which class was taken for which: a row is a true class, a column what was given; the darker, the "
        "larger the part of the row. A good model has a dark diagonal and nothing beside it."
    )

    def draw(axes: Axes, theme: Theme) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        if count <= WRITTEN:
            for (row, column), share in numpy.ndenumerate(shares):
                if table[row, column]:
                    ink = "white" if share > 0.5 else "#222222"
                    number = f"{table[row, column]:.0f}"
                    axes.text(column, row, number, ha="center", va="center", fontsize=7, color=ink)
        plain(axes, "true class (down), class given (across)")
        if count <= NAMED:
            ticks = [safe(name, 14) for name in names]
            size = 8 if count <= WRITTEN else 5
            axes.set_xticks(range(count), ticks, rotation=90)
            axes.set_yticks(range(count), ticks)
            for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
                label.set_fontsize(size)

    return Chart("confusion", words, columns, rows, draw, (side, side))
