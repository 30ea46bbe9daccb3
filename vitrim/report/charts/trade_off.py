"""Accuracy against what it costs, over many runs, with what papers print as grey ghosts.

Sparse-Tuning Figure 1, TR-PTS Figure 4 and FPET Figures 1 and 3 are of this kind; their points come from the
ledger of printed values, ours from the runs given. The papers' horizontal axes are broken or stretched; here
they are linear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from vitrim.report.chart import COLOURS, Cell, Chart, Theme, plain, safe

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Ghost:
    """A point that a paper reports."""

    name: str
    cost: float
    accuracy: float


@dataclass(frozen=True)
class Axis:
    """A cost that runs are compared by."""

    name: str
    title: str
    of: Callable[[Record], float | None]
    logarithmic: bool = False


def _speed(record: Record, what: str) -> float | None:
    measured = [speed for speed in record.get("speed", []) if speed["name"] != "plain backbone"]
    value = measured[-1].get(what) if measured else None
    return None if value is None else float(value)


MEMORY = "MiB at the peak of a training step of 16 images, above the weights"

AXES = (
    Axis("gmacs", "billion multiply-adds", lambda r: r["costs"]["gmacs"]),
    Axis("time", "measured time, plain backbone = 1", lambda r: _speed(r, "ratio")),
    Axis("memory", MEMORY, lambda r: r.get("step_memory_mib")),
    Axis("parameters", "parameters trained", lambda r: r["costs"]["trained_parameters"], logarithmic=True),
    Axis("file", "megabytes on disk for this task", lambda r: r["model_bytes"] / 1e6, logarithmic=True),
)


def trade_offs(
    names: Sequence[str], records: Sequence[Record], ghosts: Mapping[str, Sequence[Ghost]] | None = None
) -> list[Chart]:
    """A chart for every cost at least two runs have; of classifying runs."""
    if len(records) < 2 or not all("top1" in record["results"] for record in records):
        return []
    charts = []
    for axis in AXES:
        costs = [axis.of(record) for record in records]
        points = [
            (name, cost, 100 * record["results"]["top1"])
            for name, cost, record in zip(names, costs, records, strict=True)
            if cost is not None
        ]
        if len(points) > 1:
            charts.append(_scatter(axis, points, (ghosts or {}).get(axis.name, ())))
    return charts


def _scatter(axis: Axis, points: Sequence[tuple[str, float, float]], ghosts: Sequence[Ghost]) -> Chart:
    rows: list[tuple[Cell, ...]] = [(name, cost, accuracy, "measured") for name, cost, accuracy in points]
    rows += [(ghost.name, ghost.cost, ghost.accuracy, "reported") for ghost in ghosts]
    words = f"Test accuracy against {axis.title}; further up and to the left is better."
    if ghosts:
        words += " Grey: as the papers report it, on their data and machines."

    def draw(axes: Axes, theme: Theme) -> None:
        for ghost in ghosts:
            axes.plot([ghost.cost], [ghost.accuracy], "o", color=theme.faint, alpha=0.5, markersize=5)
        for place, (name, cost, accuracy) in enumerate(points):
            mark = "*" if place == 0 else "o"
            colour = COLOURS[place % len(COLOURS)]
            axes.plot([cost], [accuracy], mark, color=colour, markersize=13 if place == 0 else 7)
            shown = safe(name, 20)
            axes.annotate(shown, (cost, accuracy), xytext=(6, 5), textcoords="offset points", fontsize=8,
                          color=theme.ink)  # fmt: skip
        if axis.logarithmic:
            axes.set_xscale("log")
            _not_too_close(axes, [ghost.cost for ghost in ghosts] + [cost for _, cost, _ in points])
        plain(axes, "test accuracy, %", axis.title)
        axes.margins(x=0.25, y=0.2)

    columns = ("run", axis.title, "right, %", "source")
    return Chart(f"accuracy-by-{axis.name}", words, columns, tuple(rows), draw)


def _not_too_close(axes: Axes, costs: Sequence[float]) -> None:
    """Costs that nearly agree, shown as such: of a few percent, a logarithmic axis has but long labels."""
    low, high = min(costs), max(costs)
    if high < 3 * low:
        axes.set_xlim(low / 10, high * 10)
