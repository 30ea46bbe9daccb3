"""Images that keep different counts, in at most four sub-batches of like counts, so that little is computed
on padding.

Where a reducer has decided, images are sorted by count and split; every sub-batch is padded to its own
longest, behind a mask, and runs the following layers by itself, until the next decision asks for others. In
the end they are put together in their old order. The result is that of the padded batch up to rounding.
Shapes then depend on the images, so compiled, exported and training passes keep the padded batch.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from vitrim.backbones.places import Places
from vitrim.network.stage import Stage
from vitrim.tokens.padded import counts_of, join, split
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

MOST = 4  # sub-batches
LEAST_GAIN = 0.02  # of the tokens computed, for which splitting anew is worth the copies
SMALLEST = 4  # images in a batch that is split at all

Groups = list[list[int]]


def buckets(counts: Sequence[int], most: int = MOST) -> Groups:
    """Images in at most `most` groups of like counts, so that the fewest tokens are computed, padding
    included; fewer groups where another saves too little.

    >>> buckets([9, 3, 9, 3])
    [[1, 3], [0, 2]]
    """
    values, inverse, sizes = np.unique(np.asarray(counts), return_inverse=True, return_counts=True)
    before = np.concatenate([[0], np.cumsum(sizes)])
    count = len(values)
    # tokens[i, j]: of one group of the values i..j-1
    tokens = (before[None, :] - before[:, None]) * np.concatenate([[0], values])[None, :]
    tokens = np.where(np.arange(count + 1)[None, :] > np.arange(count + 1)[:, None], tokens, np.inf)
    best, cuts = tokens[0], [np.zeros(count + 1, dtype=int)]
    chosen, found = 1, best[count]
    for groups in range(2, min(most, count) + 1):
        sums = best[:, None] + tokens
        cuts.append(sums.argmin(0))
        best = sums.min(0)
        if best[count] <= (1 - LEAST_GAIN) * found:
            chosen, found = groups, best[count]
    ends = [count]
    for groups in range(chosen, 1, -1):
        ends.append(int(cuts[groups - 1][ends[-1]]))
    edges = [0, *reversed(ends)]
    members = [np.flatnonzero((inverse >= low) & (inverse < high)) for low, high in pairwise(edges)]
    return [group.tolist() for group in members]


def tokens_in(counts: Sequence[int], groups: Groups) -> int:
    """How many tokens are computed, padding included."""
    return sum(len(group) * max(counts[index] for index in group) for group in groups)


def varies(model: "StagedViT") -> bool:
    """Whether images may leave some reducer with different counts."""
    return any(map(decides, model.stages))


def decides(stage: Stage) -> bool:
    """Whether images may leave this block with different counts."""
    return any(part is not None and not part.static for part in (stage.before, stage.reducer))


def may_split(model: "StagedViT", state: TokenState) -> bool:
    """Whether a pass may run in sub-batches: in evaluation, with nothing that is kept for the whole batch."""
    return (
        not model.training
        and varies(model)  # before the number of images is asked for, which may be a symbol
        and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
        and len(state.tokens) >= SMALLEST
        and not state.tokens.is_meta
        and state.history is None
        and state.attention is None
        and not state.side
        and state.padding is None
        and all(stage.dispatch is None and not stage._forward_hooks for stage in model.stages)
    )


def pass_in_buckets(
    model: "StagedViT", state: TokenState, places: list[Places], blocks: range, rows: int | None
) -> TokenState:
    """The state after some of the blocks, as `StagedViT.pass_blocks` gives it."""
    parts, groups = [state], [list(range(len(state.tokens)))]
    for index in blocks:
        stage, block = model.stages[index], model.vit.blocks[index]
        asked = rows if index == model.depth - 1 else None
        if stage.before is not None and not stage.before.static:
            parts, groups = _grouped_anew([stage.prepare(part) for part in parts], groups)
            halves = [stage.enter(block, part, places[index], asked) for part in parts]
            parts = [stage.leave(block, *half) for half in halves]
            continue
        if stage.reducer is None or stage.reducer.static:
            parts = [stage(block, part, places[index], asked) for part in parts]
            continue
        prepared = [stage.prepare(part) for part in parts]
        halves = [stage.enter(block, part, places[index], asked) for part in prepared]
        parts, entered = [half[0] for half in halves], [half[1] for half in halves]
        if not any(entered):  # what the MLP reads stands in no state, where it is there already
            parts, groups = _grouped_anew(parts, groups)
            entered = [()] * len(parts)
        parts = [stage.leave(block, part, read) for part, read in zip(parts, entered, strict=True)]
    return parts[0] if len(parts) == 1 else join(parts, groups)


def _grouped_anew(parts: list[TokenState], groups: Groups) -> tuple[list[TokenState], Groups]:
    """The same images in better sub-batches, where there are some."""
    counts = [0] * sum(map(len, groups))
    for part, group in zip(parts, groups, strict=True):
        for index, count in zip(group, counts_of(part), strict=True):
            counts[index] = count
    better = buckets(counts)
    if tokens_in(counts, better) > (1 - LEAST_GAIN) * tokens_in(counts, groups):
        return parts, groups
    whole = parts[0] if len(parts) == 1 else join(parts, groups)
    return split(whole, better), better
