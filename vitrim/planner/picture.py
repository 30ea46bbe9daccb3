"""The proposals as a picture: what each trains against what it costs to run, and what papers print at which
cost.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vitrim.planner.proposals import Proposal, Proposals
from vitrim.planner.published import printed_rows, share_in_papers
from vitrim.report.chart import COLOURS, to_png

MARKS = "osD^vP*"
KNOWN = ("no reduction", "EViT", "DynamicViT", "ToMe", "Bipartite", "Pool")
COLOUR_OF = dict(zip(KNOWN, COLOURS, strict=False))  # there are more colours
OTHERS = "#444444"  # one colour for methods of one's own


def picture(proposals: Proposals) -> bytes:
    """A PNG of two panels; a colour stands for a reducer."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    ours, printed = figure.subplots(1, 2)
    _draw_proposals(ours, proposals)
    _draw_printed(printed, proposals.budget.share)
    for axes in (ours, printed):
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{proposals.model}, {proposals.budget}", fontsize=10)
    return to_png(figure)


def _draw_proposals(axes: Axes, proposals: Proposals) -> None:
    tuners = list(dict.fromkeys(type(proposal.methods[0]).__name__ for proposal in proposals.found))
    marks = dict(zip(tuners, MARKS * len(tuners), strict=False))
    timed = proposals.plain_milliseconds is not None
    for proposal in proposals.found:
        cost = proposal.milliseconds if timed else proposal.share
        mark, colour = marks[type(proposal.methods[0]).__name__], COLOUR_OF.get(_reducer(proposal), OTHERS)
        axes.plot([cost or 0.0], [proposal.trained], mark, color=colour, markersize=7, alpha=0.75)
    limit = proposals.budget.milliseconds if timed else proposals.budget.share
    if limit is not None:
        axes.axvline(limit, color="#999999", linewidth=0.8, linestyle="--")
    axes.set_yscale("log")
    axes.set_xlabel("milliseconds for an image" if timed else "share of the plain operations", fontsize=9)
    axes.set_title("proposals: parameters that train", fontsize=9)
    reducers = dict.fromkeys(map(_reducer, proposals.found))
    handles = [_handle("s", COLOUR_OF.get(name, OTHERS), name) for name in reducers]
    handles += [_handle(mark, "#888888", name) for name, mark in marks.items()]
    axes.legend(handles=handles, frameon=False, fontsize=7, ncols=2, loc="best")


def _draw_printed(axes: Axes, share: float | None) -> None:
    shares = {row: share for row in printed_rows() if (share := share_in_papers(row)) is not None}
    rows = sorted(shares, key=lambda row: row.gain)
    for place, row in enumerate(rows):
        cost = shares[row]
        reducer = type(row.methods[1]).__name__ if len(row.methods) > 1 else "no reduction"
        axes.plot([cost], [place], "o", color=COLOUR_OF.get(reducer, OTHERS), markersize=6)
        axes.text(cost - 0.015, place, f"{row.gain:+.1f}", fontsize=7, ha="right", va="center")
    axes.set_yticks(range(len(rows)), [row.recipe for row in rows], fontsize=7)
    if share is not None:
        axes.axvline(share, color="#999999", linewidth=0.8, linestyle="--")
    axes.set_xlim(left=0.4)
    axes.set_xlabel("share of the plain operations", fontsize=9)
    axes.set_title("as papers print it: points over full fine-tuning, ViT-B/16, VTAB-1K", fontsize=9)


def _handle(mark: str, colour: str, name: str) -> Line2D:
    return Line2D([], [], marker=mark, color=colour, linestyle="", markersize=5, label=name)


def _reducer(proposal: Proposal) -> str:
    return type(proposal.methods[1]).__name__ if len(proposal.methods) > 1 else "no reduction"
