"""What was measured as bars: time beside the plain backbone, and what the operations promise."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitrim.report.chart import COLOURS, to_png
from vitrim.speed.rows import AGAIN, PLAIN, Measured, Row
from vitrim.speed.ways import WAYS


def picture(measured: Measured) -> bytes:
    """A PNG, one panel for each question; the plain backbone of the same way is 1."""
    panels: dict[str, list[Row]] = {}
    for row in measured.rows:
        title = f"batch {row.batch_size}" if row.figure == "batch" else row.figure
        panels.setdefault(title, []).append(row)
    heights = [sum(row.name != PLAIN for row in rows) for rows in panels.values()]
    figure = Figure(figsize=(8, 1 + sum(0.9 + 0.26 * height for height in heights)), layout="constrained")
    ratios = {"height_ratios": heights}
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw=ratios)[:, 0]
    for place, (title, rows) in zip(axes, panels.items(), strict=True):
        _draw(place, title, [row for row in rows if row.name != PLAIN])
    threads = measured.record["threads"]
    figure.suptitle(f"{measured.record['backbone']}, {threads} thread(s)", fontsize=10)
    return to_png(figure)


def picture_of_budgets(shares: Sequence[float], found: Sequence[Measured]) -> bytes:
    """A PNG: time beside the plain backbone under each budget, a line for every way and question."""
    lines: dict[str, list[tuple[float, Row]]] = {}
    for share, measured in sorted(zip(shares, found, strict=True), key=lambda pair: pair[0]):
        for row in measured.rows:
            if row.name not in (PLAIN, AGAIN):
                title = f"batch {row.batch_size}" if row.figure == "batch" else row.figure
                lines.setdefault(f"{WAYS[row.way].words}: {row.name}, {title}", []).append((share, row))
    figure = Figure(figsize=(8, 4 + 0.2 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for place, (name, points) in enumerate(lines.items()):
        across, times = [share for share, _ in points], [row.ratio for _, row in points]
        low, high = zip(*(row.quartiles for _, row in points), strict=True)
        whiskers = [[max(0.0, time - end) for time, end in zip(times, low, strict=True)],
                    [max(0.0, end - time) for time, end in zip(times, high, strict=True)]]  # fmt: skip
        colour = COLOURS[place % len(COLOURS)]
        axes.errorbar(across, times, yerr=whiskers, fmt="o-", color=colour, label=name, capsize=2)
        macs = [row.macs for _, row in points if row.macs is not None]
        if place == 0 and len(macs) == len(points):
            axes.plot(across, macs, color="black", linestyle=":", label="operations")
    axes.axhline(1.0, color="#999999", linewidth=0.8, linestyle="--")
    axes.set_xlabel("share of tokens kept", fontsize=9)
    axes.set_ylabel("time for an image, plain backbone = 1", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7)
    record = found[0].record
    axes.set_title(f"{record['backbone']}, {record['threads']} thread(s)", fontsize=10)
    return to_png(figure)


def _draw(axes: Axes, title: str, rows: list[Row]) -> None:
    colours = dict(zip(WAYS, COLOURS, strict=False))
    for place, row in enumerate(rows):
        low, high = row.quartiles
        shade = "#bbbbbb" if row.name == AGAIN else colours[row.way]
        whiskers = [[max(0.0, row.ratio - low)], [max(0.0, high - row.ratio)]]
        axes.barh([place], [row.ratio], color=shade, height=0.7, xerr=whiskers, ecolor="#444444")
        if row.macs is not None:
            axes.plot([row.macs, row.macs], [place - 0.4, place + 0.4], color="black", linewidth=1.5)
        axes.text(0.01, place, f"{row.ratio:.3f}", fontsize=7, va="center", color="white")
    axes.set_yticks(range(len(rows)), [f"{WAYS[row.way].words}: {row.name}" for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.axvline(1.0, color="#999999", linewidth=0.8, linestyle="--")
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel("time for an image, plain backbone in the same way = 1; black: operations", fontsize=7)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
