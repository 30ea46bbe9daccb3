"""Threshold: every token whose score is above a level. LTMP learns its levels (see
`vitrim.methods.reducers.ltmp`); here they are calibrated."""

import torch
from torch import Tensor

from vitrim.methods.budgets.chosen import Chosen, Rule, descending, own_counts, shares


def above(scores: Tensor, level: float) -> Chosen:
    """Tokens whose share of the scores [B, N] is above `level` times an even share, 1 / N; the best where
    none is."""
    own = own_counts(scores)
    relative = torch.where(scores >= 0, shares(scores) * own[:, None], -torch.inf)
    return Chosen((relative > level).sum(1).clamp(min=1), descending(scores))


def probable(scores: Tensor, level: float) -> Chosen:
    """Tokens whose own score [B, N], a probability, is above `level`; the best where none is. So an image all
    of whose tokens are needed keeps all."""
    return Chosen((scores > level).sum(1).clamp(min=1), descending(scores))


PROBABLE = Rule(probable, fewest=lambda count: 1.0, most=lambda count: 0.0)
THRESHOLD = Rule(above, fewest=float, most=lambda count: 0.0)
