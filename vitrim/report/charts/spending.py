"""Where the operations go: tokens and multiply-adds of every block, beside the plain backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from vitrim.report.chart import COLOURS, Cell, Chart, Theme, plain


def spending(found: Mapping[str, Any], plainly: Mapping[str, Any]) -> list[Chart]:
    """Two charts of what run.json holds of the costs of a composition and of its plain backbone."""
    tokens = _bars(
        "tokens-by-block", "tokens that leave each block", found["tokens"], plainly["tokens"], "tokens"
    )
    macs = _bars(
        "operations-by-block",
        "million multiply-adds in each block",
        [value / 1e6 for value in found["blocks"]],
        [value / 1e6 for value in plainly["blocks"]],
        "million multiply-adds",
    )
    return [tokens, macs]


def _bars(name: str, title: str, ours: Sequence[float], plainly: Sequence[float], what: str) -> Chart:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (block, first, second) for block, (first, second) in enumerate(zip(ours, plainly, strict=True))
    )
    share = sum(ours) / sum(plainly)
    words = (
        f"{title[0].upper()}{title[1:]}: this model, and the plain backbone behind it. "
        f"Over all blocks {share:.0%} of the plain backbone's."
    )

    def draw(axes: Axes, theme: Theme) -> None:
        blocks = range(len(ours))
        axes.bar(blocks, plainly, 0.8, color="none", edgecolor=theme.faint, label="plain backbone")
        axes.bar(blocks, ours, 0.8, color=COLOURS[0], label="this model")
        plain(axes, title, "block")
        axes.set_xticks(range(0, len(ours), max(1, len(ours) // 12)))
        axes.set_ylim(0, 1.22 * max(*ours, *plainly))
        axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper right")

    return Chart(name, words, ("block", f"{what}, this model", f"{what}, plain backbone"), rows, draw)
