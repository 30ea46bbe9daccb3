"""What chosen weights say about a task: how two tasks' sets overlap, and whether the blocks that need fewest
changes are those whose tokens repeat each other (which TR-PTS assumes without showing it).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vitrim.methods.selection.candidates import candidates
from vitrim.methods.tuners.sparse_delta import SparseDeltaConv, SparseDeltaLinear

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT
    from vitrim.tokens.state import TokenState


def chosen_weights(model: "StagedViT") -> dict[str, Tensor]:
    """The columns [O, C] that train in every matrix, by the weight's name; empty where nothing was chosen."""
    found = {}
    for candidate in candidates(model, patch=True):
        layer = candidate.layer
        if isinstance(layer, SparseDeltaLinear | SparseDeltaConv) and layer.entries.chosen:
            found[candidate.name] = layer.entries.index
    return found


def overlap(one: dict[str, Tensor], other: dict[str, Tensor], fan_ins: dict[str, int]) -> tuple[float, float]:
    """The share of the smaller set that is in the other too, and what chance would give: as many columns per
    neuron, drawn at random.
    """
    both, expected = 0, 0.0
    for name in one.keys() & other.keys():
        (rows, mine), theirs = one[name].shape, other[name].shape[1]
        marked = torch.zeros(rows, fan_ins[name], dtype=torch.bool).scatter_(1, one[name].cpu(), True)
        both += int(marked.gather(1, other[name].cpu()).sum())
        expected += rows * mine * theirs / fan_ins[name]
    smaller = min(sum(index.numel() for index in each.values()) for each in (one, other))
    return both / smaller, expected / smaller


def redundancy(state: "TokenState") -> float:
    """How alike an image's patch tokens are: the mean cosine of any two of them, over a batch."""
    directions = torch.nn.functional.normalize(state.tokens[:, state.prefix :].float(), dim=-1)  # [B, N, D]
    count = directions.shape[1]
    pairs = directions.sum(1).square().sum(-1) - count  # [B], every pair twice
    return (pairs / (count * (count - 1))).mean().item()


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Correlation of ranks; equal values share their mean rank. Not a number where one side is constant."""
    ranks = torch.stack([_ranks(torch.tensor(values, dtype=torch.float64)) for values in (one, other)])
    return torch.corrcoef(ranks)[0, 1].item()


def _ranks(values: Tensor) -> Tensor:
    below = (values[None] < values[:, None]).sum(1)
    alike = (values[None] == values[:, None]).sum(1)
    return below + (alike - 1) / 2.0
