"""The staircase as a picture: milliseconds of a block over its tokens, beside what operations foretell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitrim.planner.schedule import Placement
from vitrim.planner.staircase import Curve
from vitrim.report.chart import COLOURS, safe, to_png


def picture(curve: Curve, macs: np.ndarray, title: str, found: Sequence[Placement] = ()) -> bytes:
    """A PNG: on the left a block, on the right the whole model by what placements foretold and took.

    Args:
        macs: multiply-accumulates of a block at each of `curve.counts`.
    """
    timed = [each for each in found if each.measured is not None]
    figure = Figure(figsize=(11 if timed else 6.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2) if timed else (figure.subplots(), None)
    _draw_block(left, curve, macs)
    if right is not None:
        _draw_placements(right, timed)
    figure.suptitle(safe(title, 120), fontsize=10)
    return to_png(figure, dpi=120)


def _draw_block(axes: Axes, curve: Curve, macs: np.ndarray) -> None:
    counts = np.array(curve.counts)
    whole = curve.block(counts)
    parts: Mapping[str, np.ndarray] = {
        "one block": whole,
        "its attention": curve.at("attention", counts),
        "its MLP": curve.at("mlp", counts),
    }
    for (name, times), colour in zip(parts.items(), COLOURS, strict=False):
        axes.plot(counts, times, ".-", color=colour, markersize=4, linewidth=1, label=name)
    axes.plot(counts, whole[-1] * macs / macs[-1], ":", color="black", label="as its operations foretell")
    edges = np.array(curve.treads())
    axes.plot(edges, curve.block(edges), "o", color=COLOURS[0], markersize=5, fillstyle="none",
              label="outer edges of steps")  # fmt: skip
    axes.set_xlabel("patch tokens", fontsize=9)
    images = "an image" if curve.batch_size == 1 else f"{curve.batch_size} images"
    axes.set_ylabel(f"milliseconds for {images}", fontsize=9)
    axes.set_ylim(bottom=0)
    _bare(axes)


def _draw_placements(axes: Axes, timed: Sequence[Placement]) -> None:
    for place, each in enumerate(timed):
        colour = COLOURS[place % len(COLOURS)]
        axes.plot([each.milliseconds or 0.0], [each.measured or 0.0], "o", color=colour, label=each.name)
    most = max(max(each.measured or 0.0, each.milliseconds or 0.0) for each in timed)
    axes.plot([0, most], [0, most], color="#999999", linewidth=0.8, linestyle="--")
    axes.set_xlabel("milliseconds for an image, foretold", fontsize=9)
    axes.set_ylabel("measured", fontsize=9)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
