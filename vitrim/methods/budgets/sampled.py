"""Sampled: tokens at evenly spaced quantiles of the scores (adaptive token sampling, arXiv 2111.15667)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.methods.budgets.chosen import Chosen, Rule, own_counts


def by_quantiles(scores: Tensor, quantiles: float) -> Chosen:
    """The tokens nearest to K = `quantiles` evenly spaced values of the distribution function of the scores
    [B, N] in ascending order: many quantiles fall on a token of high score, which counts once, so peaked
    images keep fewer.

    As released: the function runs from 0 to 1 over an image's tokens, quantiles are y_j = y_0 + (1 - y_0) j /
    (K - 1) with y_0 its smallest positive value, and only the K highest scores can be the nearest. So the
    token of the lowest score is never kept, unless an image has only one.
    """
    ascending = scores.argsort(dim=1, stable=True)  # padding first
    own = own_counts(scores)[:, None]
    places = torch.arange(scores.shape[1], device=scores.device)
    there = places >= scores.shape[1] - own  # [B, N]
    cumulated = scores.gather(1, ascending).clamp(min=0).cumsum(1)
    start = cumulated.masked_fill(~there, torch.inf).amin(1, keepdim=True)
    spread = cumulated[:, -1:] - start
    reached = torch.where(spread > 0, (cumulated - start) / torch.where(spread > 0, spread, 1), 1)
    reached = reached.masked_fill(~there, -torch.inf)  # [B, N], ascending
    first = reached.masked_fill(reached <= 0, torch.inf).amin(1, keepdim=True)
    steps = torch.arange(int(quantiles), device=scores.device, dtype=scores.dtype) / max(
        int(quantiles) - 1, 1
    )
    wanted = (first + (1 - first) * steps).contiguous()  # [B, K]
    candidates = places >= scores.shape[1] - own.clamp(max=int(quantiles))
    near = _nearest(reached.masked_fill(~candidates, -torch.inf).contiguous(), wanted)
    chosen = torch.zeros_like(there).scatter(1, near, True)  # [B, N], in ascending order
    falling = chosen.flip(1)
    order = ascending.flip(1).gather(1, (~falling).to(torch.uint8).argsort(dim=1, stable=True))
    return Chosen(chosen.sum(1), order)


def _nearest(values: Tensor, wanted: Tensor) -> Tensor:
    """The first index of the value nearest to each wanted one, of ascending values [B, N]. [B, K]"""
    right = torch.searchsorted(values, wanted).clamp(max=values.shape[1] - 1)
    padded = F.pad(values, (1, 0), value=-torch.inf)
    below, above = padded.gather(1, right), values.gather(1, right)
    nearest = torch.where(wanted - below <= above - wanted, below, above)
    return torch.searchsorted(values, nearest.contiguous())


SAMPLED = Rule(by_quantiles, lambda count: 1, lambda count: 64 * count, whole=True, by_values=True)
