"""How learning went: training loss and validation figure over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vitrim.report.chart import COLOURS, Cell, Chart, Theme, plain, safe
from vitrim.settings.task_kinds import kind_of

VALIDATION = {
    "classify": "validation accuracy, %",
    "multilabel": "validation mAP, %",
    "regress": "validation R2",
    "segment": "validation mIoU, %",
}
Histories = Mapping[str, Sequence[Mapping[str, Any]]]


def learning(histories: Histories) -> list[Chart]:
    """Two charts, a line for each run."""
    losses = {
        name: [(row["epoch"], row.get("train_loss")) for row in rows] for name, rows in histories.items()
    }
    charts = [_lines("training-loss", "training loss", losses)]
    figures = {name: _validation(rows) for name, rows in histories.items()}
    kinds = {_kind(rows) for rows in histories.values() if rows} - {None}
    if kinds:
        measured = "; ".join(sorted(VALIDATION[str(kind)] for kind in kinds))
        charts.append(_lines("validation", measured, figures))
    return charts


def _kind(rows: Sequence[Mapping[str, Any]]) -> str | None:
    kind = kind_of(rows[0], "val_")
    return None if kind is None else kind.name


def _validation(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, float | None]]:
    kind = kind_of(rows[0], "val_") if rows else None
    if kind is None:
        return []
    factor = 100 if kind.percent else 1
    values = [(row["epoch"], row.get(f"val_{kind.figure}")) for row in rows]
    return [(epoch, None if value is None else factor * value) for epoch, value in values]


def _lines(name: str, title: str, series: Mapping[str, Sequence[tuple[int, float | None]]]) -> Chart:
    rows: list[tuple[Cell, ...]] = [
        (called, epoch, value) for called, line in series.items() for epoch, value in line
    ]

    def draw(axes: Axes, theme: Theme) -> None:
        for place, (called, line) in enumerate(series.items()):
            numbers = [math.nan if value is None else value for _, value in line]
            mark = "o" if len(numbers) == 1 else None
            colour = COLOURS[place % len(COLOURS)]
            axes.plot([epoch for epoch, _ in line], numbers, color=colour, label=safe(called), marker=mark)
        plain(axes, title, "epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        epochs = [epoch for line in series.values() for epoch, _ in line]
        if epochs:  # half an epoch of room, so that a single one has a whole number under it
            axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=8)

    return Chart(
        name, f"{title[0].upper()}{title[1:]}, by epoch.", ("run", "epoch", title), tuple(rows), draw
    )
