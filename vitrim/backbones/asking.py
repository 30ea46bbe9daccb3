"""Tokens outside the sequence ask a block's attention: side streams, whose patches need no gradient.

For the gradient of the queries alone, the keys and values of a frozen stream would be kept until the backward
pass, and with them the queries of its own tokens, which stand in the same tensor: three times what they were
made of. They are made again instead, at the price of their two projections.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vitrim.backbones.bridge import joined_heads, queries_alone
from vitrim.backbones.support import DiffAttention, TalkingHeadAttn, TimmModule
from vitrim.tokens.attended import Attended


def answers(attention: TimmModule) -> bool:
    """Whether tokens outside the sequence can ask it: not where heads are mixed or subtracted."""
    return not isinstance(attention, (TalkingHeadAttn, DiffAttention))


def ask(attention: TimmModule, normed: Tensor, attended: Attended) -> Tensor:
    """What tokens outside the sequence, which have no place in it, receive from its keys and values, up to,
    but without, the output projection: [B, q, D] -> [B, q, D']"""
    queries = queries_alone(attention, normed)
    if hasattr(attention, "q_norm"):
        queries = attention.q_norm(queries)
    dropout = attention.attn_drop.p if attention.training else 0.0
    return joined_heads(attention, _mixed(queries, attended, dropout), normed)


def _mixed(queries: Tensor, attended: Attended, dropout: float) -> Tensor:
    """Softmaxed products with the keys, times the values. [B, H, q, d]"""
    mask = None if attended.key_bias is None else attended.key_bias.to(queries.dtype)
    assert attended.values is not None  # `attend` always gives them

    def mix(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout)

    source = attended.source
    if source is None or not _remakes(queries, attended):
        return mix(queries, attended.keys, attended.values)
    ready, make = [(attended.keys, attended.values)], source.make

    def mix_made(queries: Tensor, tokens: Tensor) -> Tensor:
        return mix(queries, *(ready.pop() if ready else make(tokens)))  # they are let go of after the first

    found: Tensor = checkpoint(
        mix_made, queries, source.tokens, use_reentrant=False, preserve_rng_state=dropout > 0
    )
    return found


def _remakes(queries: Tensor, attended: Attended) -> bool:
    """Whether the queries alone need a gradient of this."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    frozen = attended.values is not None and not attended.values.requires_grad
    return queries.requires_grad and frozen and not attended.keys.requires_grad
