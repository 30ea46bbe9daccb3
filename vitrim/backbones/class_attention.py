"""CaiT's class-attention blocks: after the trunk, a class token reads the patches, which stay as they are."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.backbones.bridge import split_heads
from vitrim.backbones.support import TimmModule
from vitrim.backbones.weighing import log_sizes, pool_weights
from vitrim.tokens.state import TokenState


def with_class_token(vit: TimmModule, state: TokenState) -> TokenState:
    """The state with the class token before all others, after the blocks in which only it asks.

    They pool, so every patch counts by its size, as in an attention pool: log sizes are added to the products
    of a reduced sequence, and padding is left out.
    """
    bias = None
    if not state.full or state.keep is not None:
        bias = F.pad(log_sizes(pool_weights(state)), (1, 0))[:, None, None].to(state.tokens.dtype)
    classes = vit.cls_token.expand(len(state.tokens), -1, -1)  # [B, 1, D]
    for block in vit.blocks_token_only:
        normed = block.norm1(torch.cat([classes, state.tokens], dim=1))
        update = _attend(block.attn, normed, bias)
        classes = classes + block.drop_path(block.gamma_1 * update)
        classes = classes + block.drop_path(block.gamma_2 * block.mlp(block.norm2(classes)))
    return state.replaced(tokens=torch.cat([classes, state.tokens], dim=1), prefix=state.prefix + 1)


def _attend(attention: TimmModule, normed: Tensor, bias: Tensor | None) -> Tensor:
    """What the class token gathers: [B, T, D] -> [B, 1, D]"""
    heads = attention.num_heads
    queries = split_heads(attention.q(normed[:, :1]), heads)
    keys, values = split_heads(attention.k(normed), heads), split_heads(attention.v(normed), heads)
    dropout = attention.attn_drop.p if attention.training else 0.0
    mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, dropout_p=dropout)
    return attention.proj_drop(attention.proj(mixed.transpose(1, 2).flatten(2)))
