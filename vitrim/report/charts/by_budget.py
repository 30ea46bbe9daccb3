"""One model under several budgets: its main figure against what an image costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from vitrim.report.chart import COLOURS, Cell, Chart, Theme, plain, safe
from vitrim.settings.task_kinds import kind_of


def by_budget(rows: Sequence[Mapping[str, Any]], called: str) -> Chart:
    """A chart of what `vitrim evaluate --budget` measured.

    Args:
        rows: one for each budget, with the figures of the task, "budget", "gmacs", and "costs_on_images"
            where an image's cost depends on it.
        called: what was measured, for the title.
    """
    kind = kind_of(rows[0])
    assert kind is not None  # every kind of task that is answered image by image has a main figure
    scale, unit = (100, ", %") if kind.percent else (1, "")
    table = sorted(_row(row, row[kind.figure], scale) for row in rows)
    means, figures = [row[1] for row in table], [row[4] for row in table]
    spread = any("costs_on_images" in row for row in rows)

    def draw(axes: Axes, theme: Theme) -> None:
        if spread:
            reach = [[row[1] - row[2] for row in table], [row[3] - row[1] for row in table]]
            axes.errorbar(means, figures, xerr=reach, fmt="none", ecolor=theme.faint, elinewidth=1)
        axes.plot(means, figures, "o-", color=COLOURS[0])
        for row in table:
            axes.annotate(f"{row[0]:g}", (row[1], row[4]), xytext=(0, 7), textcoords="offset points",
                          fontsize=8, ha="center", color=theme.ink)  # fmt: skip
        title = f"{safe(called, 40)}, by share of tokens kept"
        plain(axes, title, "billion multiply-adds for one image", kind.heading + unit)
        axes.margins(x=0.12, y=0.2)

    words = f"{kind.heading} of one set of weights against what an image costs; at each point its budget."
    if spread:
        words += " The cost depends on the image: points stand at the mean, lines reach over nine in ten."
    columns = ("budget", "GMACs, mean", "GMACs, 5 %", "GMACs, 95 %", kind.heading + unit, "loss")
    return Chart("by-budget", words, columns, tuple(tuple[Cell, ...](row) for row in table), draw)


def _row(row: Mapping[str, Any], figure: float | None, scale: int) -> tuple[float, ...]:
    """Budget, cost of an image (mean, low and high), figure, loss; a figure that is not defined is NaN."""
    found = row.get("costs_on_images")
    costs = (row["gmacs"],) * 3
    if found is not None:
        of = found["gmacs_percentiles"]
        costs = (found["gmacs_mean"], of["5"], of["95"])
    return (row["budget"], *costs, float("nan") if figure is None else scale * figure, row["loss"])
