"""The reduction that leaves every image as many tokens as were chosen for it."""

import torch
from torch import Tensor

from vitrim.methods.budgets.chosen import Chosen
from vitrim.tokens.counted import Kept, keep_counted
from vitrim.tokens.later import Later
from vitrim.tokens.state import TokenState


def keep_chosen(state: TokenState, scores: Tensor, chosen: Chosen, fuse: str) -> TokenState:
    """Every image with the tokens chosen for it in descending order, then the one fused from the others.

    Args:
        scores: [B, N], -1 for padding.
        fuse: as of EViT. The weights are those of `keep_best` for each image by itself.
    """
    own, kept = (scores >= 0).sum(1), chosen.counts  # [B] each
    gone = kept < own
    if not bool(gone.any()):  # waits for the device
        return state
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(chosen.order)
    order = torch.where(gone[:, None], chosen.order, places)  # whoever keeps all stays as it is
    rank = torch.empty_like(order).scatter(1, order, places)  # [B, N], the place of each token in the order
    fuses = fuse in ("mean", "sum")
    left = kept if fuse == "drop" else kept + gone
    weights, others = None, torch.full_like(rank, -1)
    if fuses:
        weights = _weights(scores, (rank >= kept[:, None]) & (scores >= 0), fuse)
        others = torch.where(scores >= 0, kept[:, None], -1)
    slots = Later(torch.where, rank < (kept if fuses else left)[:, None], rank, others)
    counts, best = torch.stack([left, torch.where(gone, kept, -1)]).tolist()
    fused_at = best if fuses else [-1] * len(best)
    return keep_counted(state, Kept(order, tuple(counts), slots, weights, tuple(fused_at)))


def _weights(scores: Tensor, others: Tensor, fuse: str) -> Tensor:
    """The weights of the others in the fused token of their image. [B, N]"""
    weights = scores.clamp(min=torch.finfo(scores.dtype).tiny) * others
    if fuse == "sum":
        return weights
    total = weights.sum(1, keepdim=True)
    return weights / torch.where(total > 0, total, 1)
