"""Pictures of which weights runs chose to train (TR-PTS, Figures 5 and 7): their spread over the blocks, the
overlap between runs, and how it goes with the redundancy of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from matplotlib.axes import Axes

from vitrim.data import DataSource
from vitrim.data.transforms import eval_transform
from vitrim.methods.selection.candidates import candidates
from vitrim.methods.selection.comparing import chosen_weights, overlap, redundancy, spearman
from vitrim.methods.selection.shares import chosen_shares
from vitrim.network.model import StagedViT
from vitrim.report.chart import COLOURS, Cell, Chart, Theme, plain, safe
from vitrim.report.samples import by_class_in_turn
from vitrim.report.traced import states

IMAGES = 32  # to measure redundancy on


def block_distribution(models: Mapping[str, StagedViT]) -> Chart | None:
    """The share of the highest scores that fell on each block, a bar for each run (TR-PTS, Figure 5); None
    where no run ranked them.
    """
    found = {name: shares for name, model in models.items() if (shares := chosen_shares(model)) is not None}
    if not found:
        return None
    rows: list[tuple[Cell, ...]] = [
        (name, block, share) for name, shares in found.items() for block, share in enumerate(shares)
    ]

    def draw(axes: Axes, theme: Theme) -> None:
        width = 0.8 / len(found)
        for place, (name, shares) in enumerate(found.items()):
            left = [block + (place - (len(found) - 1) / 2) * width for block in range(len(shares))]
            heights = [100 * share for share in shares]
            axes.bar(left, heights, width, color=COLOURS[place % len(COLOURS)], label=safe(name))
        plain(axes, "where the highest scores are, % of them", "block")
        axes.set_xticks(range(max(len(shares) for shares in found.values())))
        axes.legend(frameon=False, fontsize=8)

    words = "Which blocks the task needs changed: the share of the highest scores in each."
    return Chart("scores-by-block", words, ("run", "block", "share"), tuple(rows), draw)


def overlaps(models: Mapping[str, StagedViT]) -> dict[tuple[str, str], tuple[float, float]]:
    """For every pair of runs that chose weights of equally shaped backbones: their overlap, and that of
    chance.
    """
    chosen = {name: weights for name, model in models.items() if (weights := chosen_weights(model))}
    fan_ins = {name: _fan_ins(models[name]) for name in chosen}
    return {
        (one, other): overlap(chosen[one], chosen[other], fan_ins[one])
        for one in chosen
        for other in chosen
        if fan_ins[one] == fan_ins[other]
    }


def overlap_map(models: Mapping[str, StagedViT]) -> Chart | None:
    """A square for each pair of runs: the share of the smaller set that is in both, in brackets by chance
    (TR-PTS, Figure 7).
    """
    found = overlaps(models)
    names = list(dict.fromkeys(name for pair in found for name in pair))
    if len(names) < 2:
        return None
    rows = tuple((one, other, share, chance) for (one, other), (share, chance) in found.items())

    def draw(axes: Axes, theme: Theme) -> None:
        nothing = (float("nan"), float("nan"))
        values = [[found.get((one, other), nothing)[0] for other in names] for one in names]
        axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
        for (one, other), (share, chance) in found.items():
            if one != other:
                ink = "white" if share > 0.5 else "#222222"
                place = names.index(other), names.index(one)
                said = f"{share:.2f}\n({chance:.2f})"
                axes.text(*place, said, ha="center", va="center", fontsize=8, color=ink)
        plain(axes, "trained weights in common (by chance)")
        axes.set_xticks(range(len(names)), list(map(safe, names)), rotation=20)
        axes.set_yticks(range(len(names)), list(map(safe, names)))

    words = "The share of trained weights two runs have in common, in brackets by chance."
    side = 2.6 + 0.7 * len(names)
    columns = ("run", "other run", "in common", "by chance")
    return Chart("weights-in-common", words, columns, rows, draw, (side + 0.6, side))


def shares_and_redundancy(model: StagedViT, source: DataSource) -> tuple[Chart, float] | None:
    """Every block's share of the highest scores against the likeness of the patch tokens that enter it, on
    test images, and their rank correlation. None where scores were not ranked.
    """
    shares = chosen_shares(model)
    if shares is None:
        return None
    alike = token_redundancy(model, source)
    correlation = spearman(shares, alike)

    def draw(axes: Axes, theme: Theme) -> None:
        axes.scatter(alike, [100 * share for share in shares], color=COLOURS[0], s=18)
        for block, (x, y) in enumerate(zip(alike, shares, strict=True)):
            axes.annotate(
                str(block),
                (x, 100 * y),
                xytext=(3, 3),
                textcoords="offset points",
                fontsize=8,
                color=theme.ink,
            )
        title = f"Spearman correlation {correlation:+.2f}"
        plain(axes, title, "mean cosine between entering tokens", "share of the highest scores, %")

    words = "Whether blocks that need fewer changes hold more similar tokens, block by block."
    rows = tuple((block, x, y) for block, (x, y) in enumerate(zip(alike, shares, strict=True)))
    return Chart("scores-and-likeness", words, ("block", "likeness", "share"), rows, draw), correlation


@torch.inference_mode()
def token_redundancy(model: StagedViT, source: DataSource, count: int = IMAGES) -> list[float]:
    """How alike the patch tokens entering each block are, without reducers and branches."""
    split = source.split("test" if "test" in source.splits else "val")
    tensors = split.with_transform(eval_transform(model.preprocess))
    images = torch.stack([tensors[index][0] for index in by_class_in_turn(split.labels)[:count]])
    plain = model.plain().eval()
    first, _ = plain.begin(images)
    return [redundancy(state) for state, _ in pairwise([first, *states(plain, images)])]


def _fan_ins(model: StagedViT) -> dict[str, int]:
    return {c.name: c.layer.weight[0].numel() for c in candidates(model, patch=True)}


def selection(models: Mapping[str, StagedViT], source: DataSource) -> list[Chart]:
    """All of these that the runs have."""
    related = shares_and_redundancy(next(iter(models.values())), source) if models else None
    found = [block_distribution(models), overlap_map(models), related[0] if related else None]
    return [each for each in found if each is not None]
