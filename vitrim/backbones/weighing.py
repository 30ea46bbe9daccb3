"""How much every token counts where tokens are pooled: by the patches it stands for, padding not at all."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.tokens.state import TokenState


def pool_weights(state: TokenState) -> Tensor:
    """How much every token counts when tokens are pooled: patches by size, a prefix token as one. [B, T]"""
    weights = state.sizes if state.keep is None else state.sizes * state.keep
    return F.pad(weights, (state.prefix, 0), value=1.0)


def log_sizes(weights: Tensor) -> Tensor:
    """Their logarithm; minus infinity, without a gradient, where a token is masked out."""
    return weights.clamp(min=torch.finfo(weights.dtype).tiny).log().masked_fill(weights == 0, -torch.inf)
