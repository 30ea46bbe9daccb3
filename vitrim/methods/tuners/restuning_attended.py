"""Res-Tuning's prefix and prompt forms: keys and values of their own beside those of a block's attention."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from vitrim.tokens.attended import Attended
from vitrim.tokens.state import at_least_float32, without_autocast

if TYPE_CHECKING:
    from vitrim.backbones.support import TimmModule

START = 0.02  # deviation


class BesideKeys(nn.Module):
    """What attention gives, drawn towards what it would give to these keys and values alone.

    Attention over [K; P_k], [V; P_v] is (1 - l) Attn(Q, K, V) + l Attn(Q, P_k, P_v), with l the share of the
    softmax that falls on P_k: exactly, for every query by itself.
    """

    def added(self, block: "TimmModule") -> tuple[Tensor, Tensor]:
        """P_k and P_v [1, H, length, d]."""
        raise NotImplementedError

    def forward(self, block: "TimmModule", mixed: Tensor, attended: Attended) -> Tensor:
        """[B, T, D'] -> [B, T, D']"""
        keys, values = self.added(block)
        queries, precise = attended.queries, at_least_float32(mixed.dtype)
        with without_autocast(mixed.device):
            scaled = queries.to(precise) * attended.scale
            own = scaled @ attended.keys.to(precise).transpose(-2, -1)  # [B, H, T, T]
            own = own if attended.bias is None else own + attended.bias.to(precise)
            scores = scaled @ keys.to(precise).transpose(-2, -1)  # [B, H, T, length]
            share = (scores.logsumexp(-1) - own.logsumexp(-1)).sigmoid()[..., None]  # [B, H, T, 1]
            beside = scores.softmax(-1) @ values.to(precise)  # [B, H, T, d]
            heads = mixed.to(precise).unflatten(-1, (queries.shape[1], -1)).transpose(1, 2)
            joint = heads + share * (beside - heads)
        return joint.transpose(1, 2).flatten(2).to(mixed.dtype)


class Prefix(BesideKeys):
    """Keys and values that train."""

    def __init__(self, heads: int, width: int, length: int, like: Tensor) -> None:
        super().__init__()
        self.keys = nn.Parameter(like.new_empty(heads, length, width).normal_(std=START))
        self.values = nn.Parameter(like.new_empty(heads, length, width).normal_(std=START))

    def added(self, block: "TimmModule") -> tuple[Tensor, Tensor]:
        return self.keys[None], self.values[None]


class Prompt(BesideKeys):
    """Tokens that train, of which the block's own frozen layers make keys and values."""

    def __init__(self, width: int, length: int, like: Tensor) -> None:
        super().__init__()
        self.tokens = nn.Parameter(like.new_empty(length, width).normal_(std=START))

    def added(self, block: "TimmModule") -> tuple[Tensor, Tensor]:
        from vitrim.backbones.blocks import keys_and_values

        return keys_and_values(block, self.tokens[None])
