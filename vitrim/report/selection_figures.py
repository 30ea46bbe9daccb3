"""Pictures of which weights runs chose to train (TR-PTS, Figures 5 and 7): their spread over the blocks, the
overlap between runs, and how it goes with the redundancy of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from matplotlib.figure import Figure

from vitrim.backbones.embedding import embed
from vitrim.backbones.geometry import prefix_count
from vitrim.data import DataSource
from vitrim.data.transforms import eval_transform
from vitrim.methods.selection.candidates import candidates
from vitrim.methods.selection.comparing import chosen_weights, overlap, redundancy, spearman
from vitrim.methods.selection.shares import chosen_shares
from vitrim.network.model import StagedViT
from vitrim.report.figures import COLOURS, to_png
from vitrim.report.kept import spread, states
from vitrim.tokens.state import TokenState

IMAGES = 32  # to measure redundancy on


def block_distribution(models: Mapping[str, StagedViT]) -> bytes | None:
    """The share of the highest scores that fell on each block, a bar for each run; None where no run ranked
    them.
    """
    found = {name: shares for name, model in models.items() if (shares := chosen_shares(model)) is not None}
    if not found:
        return None
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(found)
    for place, (colour, (name, shares)) in enumerate(zip(COLOURS * len(found), found.items(), strict=False)):
        left = [block + (place - (len(found) - 1) / 2) * width for block in range(len(shares))]
        axes.bar(left, [100 * share for share in shares], width, color=colour, label=name)
    axes.set_xticks(range(max(len(shares) for shares in found.values())))
    axes.set_xlabel("block", fontsize=9)
    axes.set_title("where the highest scores are, % of them", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=9)
    return to_png(figure)


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


def overlap_map(models: Mapping[str, StagedViT]) -> bytes | None:
    """A square for each pair of runs: the share of the smaller set that is in both, in brackets by chance."""
    found = overlaps(models)
    names = list(dict.fromkeys(name for pair in found for name in pair))
    if len(names) < 2:
        return None
    side = 1.5 + 1.1 * len(names)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    nothing = (float("nan"), float("nan"))
    values = [[found.get((one, other), nothing)[0] for other in names] for one in names]
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
    for (one, other), (share, chance) in found.items():
        if one != other:
            colour = "white" if share > 0.5 else "black"
            place = names.index(other), names.index(one)
            axes.text(
                *place, f"{share:.2f}\n({chance:.2f})", ha="center", va="center", fontsize=9, color=colour
            )
    axes.set_xticks(range(len(names)), names, fontsize=9, rotation=20)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_title("trained weights in common (by chance)", fontsize=10)
    return to_png(figure)


def shares_and_redundancy(model: StagedViT, source: DataSource) -> tuple[bytes, float] | None:
    """Every block's share of the highest scores against the likeness of the patch tokens that enter it, on
    test images, and their rank correlation. None where scores were not ranked.
    """
    shares = chosen_shares(model)
    if shares is None:
        return None
    alike = token_redundancy(model, source)
    correlation = spearman(shares, alike)
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.scatter(alike, [100 * share for share in shares], color=COLOURS[0], s=18)
    for block, (x, y) in enumerate(zip(alike, shares, strict=True)):
        axes.annotate(str(block), (x, 100 * y), xytext=(3, 3), textcoords="offset points", fontsize=8)
    axes.set_xlabel("mean cosine between patch tokens entering the block", fontsize=9)
    axes.set_ylabel("share of the highest scores, %", fontsize=9)
    axes.set_title(f"Spearman correlation {correlation:+.2f}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return to_png(figure), correlation


@torch.inference_mode()
def token_redundancy(model: StagedViT, source: DataSource, count: int = IMAGES) -> list[float]:
    """How alike the patch tokens entering each block are, without reducers and branches."""
    split = source.split("test" if "test" in source.splits else "val")
    tensors = split.with_transform(eval_transform(model.preprocess))
    images = torch.stack([tensors[index][0] for index in spread(split.labels, count)])
    plain = StagedViT(model.vit, model.preprocess, model.origin).eval()
    embedded = embed(plain.vit, images)
    first = TokenState.start(embedded.tokens, prefix_count(plain.vit), embedded.grid)
    return [redundancy(state) for state, _ in pairwise([first, *states(plain, images)])]


def _fan_ins(model: StagedViT) -> dict[str, int]:
    return {c.name: c.layer.weight[0].numel() for c in candidates(model, patch=True)}


def section(models: Mapping[str, StagedViT], source: DataSource) -> Sequence[tuple[str, bytes]]:
    """All of these that the runs have, each with a sentence."""
    found: list[tuple[str, bytes]] = []
    spread_out = block_distribution(models)
    if spread_out is not None:
        found.append(
            ("Which blocks the task needs changed: the share of the highest scores in each.", spread_out)
        )
    together = overlap_map(models)
    if together is not None:
        found.append(
            ("The share of trained weights two runs have in common, in brackets by chance.", together)
        )
    related = shares_and_redundancy(next(iter(models.values())), source)
    if related is not None:
        found.append(
            ("Whether blocks that need fewer changes hold more similar tokens, block by block.", related[0])
        )
    return found
