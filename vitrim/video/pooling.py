"""From the tokens of all frames of a clip to one vector."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6


class AttentivePooling(nn.Module):
    """A learned query attends to all tokens of a clip: DyT's head for video (arXiv 2403.11808).

        y = W_o [softmax(q_h k_h^T / sqrt(d)) v_h]_h + b_o,
        q = W_q LN(query) + b_q,   k = W_k LN(x),   v = W_v LN(x) + b_v

    Three norms of their own (eps 1e-6), no residual, no MLP; the query starts at zero. A token that stands
    for n patches counts n times (log n is added to its product), as in every pooling here. 4 D^2 + 10 D
    parameters (ViT-B: 2,366,976).
    """

    def __init__(self, width: int, heads: int, like: Tensor) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"Video: {heads} heads do not divide the width {width} of a token; choose other pool_heads"
            )
        self.heads = heads
        made: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.query = nn.Parameter(like.new_zeros(1, 1, width))
        self.norm_q, self.norm_k, self.norm_v = (nn.LayerNorm(width, EPS, **made) for _ in range(3))
        self.q = nn.Linear(width, width, **made)
        self.k = nn.Linear(width, width, bias=False, **made)
        self.v = nn.Linear(width, width, **made)
        self.proj = nn.Linear(width, width, **made)
        for layer in (self.q, self.k, self.v, self.proj):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, log_sizes: Tensor | None = None) -> Tensor:
        """[B, T, D] -> [B, D]; `log_sizes` [B, T], minus infinity for a token that is masked out."""
        query = self._heads(self.q(self.norm_q(self.query)).expand(len(tokens), -1, -1))  # [B, H, 1, d]
        keys = self._heads(self.k(self.norm_k(tokens)))  # [B, H, T, d]
        values = self._heads(self.v(self.norm_v(tokens)))
        bias = None if log_sizes is None else log_sizes[:, None, None].to(tokens.dtype)  # [B, 1, 1, T]
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias)
        pooled: Tensor = self.proj(mixed.flatten(1))  # [B, H, 1, d] -> [B, D]
        return pooled

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def mean_by_size(tokens: Tensor, weights: Tensor) -> Tensor:
    """The mean of tokens [B, T, D] in shares of their weights [B, T]. [B, D]"""
    share = weights / weights.sum(1, keepdim=True)
    return torch.einsum("btd,bt->bd", tokens, share.to(tokens.dtype))
