"""How timm's models attend and add residuals. Only this file and its neighbours name their parts.

Five model classes cover the families vitrim supports: `VisionTransformer` (ViT, DeiT, CLIP, SigLIP, DINOv2,
InternViT, hybrids, ViTamin), `Eva` (EVA-02, DINOv3, Perception Encoder, Sapiens2), `Beit`,
`VisionTransformerRelPos` and `NaFlexVit` (SigLIP 2, C-RADIO). Whatever else a model has is refused by
`vitrim.backbones.support.check_support`, never ignored.
"""

from collections.abc import Callable

import torch
from timm.layers import DropPath, apply_rot_embed_cat
from torch import Tensor
from torch.nn import Identity
from torch.nn import functional as F

from vitrim.backbones.places import Places, relative_bias
from vitrim.backbones.support import POST_NORM, TimmModule
from vitrim.backbones.tuned_linear import computes_rows, linear_rows
from vitrim.tokens.attended import Attended
from vitrim.tokens.state import TokenState

# Attention by other means than the fused kernel, while masks are learned: (queries, keys, values, scale,
# bias, state) -> what the tokens receive [B, H, T, d] and the attention itself [B, H, T, T]
AttentionMixing = Callable[[Tensor, Tensor, Tensor, float, Tensor | None, TokenState], tuple[Tensor, Tensor]]


def attend(
    attention: TimmModule,
    normed: Tensor,
    state: TokenState,
    places: Places | None = None,
    proportional: bool = False,
    rows: int | None = None,
    mixing: AttentionMixing | None = None,
) -> tuple[Tensor, Attended]:
    """Self-attention of one block up to, but without, its output projection: [B, T, D'] and what was
    attended.

    `proportional` adds log(size) of every patch to the products with its key (ToMe, arXiv 2210.09461, eq. 1).
    With `rows`, only the first `rows` tokens ask (the last block of a model whose head reads the class
    token); keys and values stay whole.
    """
    places = Places() if places is None else places
    queries, plain_keys, values = _project(attention, normed, rows)
    if hasattr(attention, "q_norm"):
        queries, plain_keys = attention.q_norm(queries), attention.k_norm(plain_keys)
    keys = plain_keys
    if places.rotary is not None:
        table = places.rotary if state.full else _table_at(places.rotary, state.position)
        half = bool(getattr(attention, "rotate_half", False))  # absent before timm 1.0.20
        queries = _rotate(queries, table, state.prefix, half, values) if rows is None else queries
        keys = _rotate(keys, table, state.prefix, half, values)
    keys, values = _repeated(attention, keys), _repeated(attention, values)
    bias = key_bias = attention_bias(state, proportional, padded=mixing is None)
    relative = relative_bias(attention, places.shared, state, rows)
    if relative is not None:
        bias = relative if bias is None else bias + relative
    weights = None
    if mixing is None:
        dropout = attention.attn_drop.p if attention.training else 0.0
        mask = None if bias is None else bias.to(queries.dtype)
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, dropout_p=dropout
        )  # [B, H, T, d]
    else:
        mixed, weights = mixing(queries, keys, values, attention.scale, bias, state)
    mixed = _joined_heads(attention, mixed, normed if rows is None else normed[:, :rows])
    seen = Attended(
        queries, keys, plain_keys, attention.scale, bias, state.prefix, state.keep, weights, values, key_bias
    )
    return mixed, seen


def ask(attention: TimmModule, normed: Tensor, attended: Attended) -> Tensor:
    """What tokens outside the sequence, which have no place in it, receive from its keys and values, up to,
    but without, the output projection: [B, q, D] -> [B, q, D']"""
    queries = _queries(attention, normed)
    if hasattr(attention, "q_norm"):
        queries = attention.q_norm(queries)
    dropout = attention.attn_drop.p if attention.training else 0.0
    mask = None if attended.key_bias is None else attended.key_bias.to(queries.dtype)
    mixed = F.scaled_dot_product_attention(
        queries, attended.keys, attended.values, attn_mask=mask, dropout_p=dropout
    )  # [B, H, q, d]
    return _joined_heads(attention, mixed, normed)


def _joined_heads(attention: TimmModule, mixed: Tensor, normed: Tensor) -> Tensor:
    """The heads side by side, under the attention's norm and gate where it has them: [B, T, D']."""
    mixed = mixed.transpose(1, 2).flatten(2)
    mixed = attention.norm(mixed) if hasattr(attention, "norm") else mixed
    gate = getattr(attention, "gate", None)
    return mixed if gate is None else mixed * gate(normed).sigmoid()


def attention_bias(state: TokenState, proportional: bool, padded: bool = True) -> Tensor | None:
    """What is added to every product with a key: log sizes, and minus infinity for padding. [B, 1, 1, T] or
    None."""
    bias = state.sizes.log() if proportional else None
    if state.keep is not None and padded:
        absent = torch.zeros_like(state.sizes).masked_fill(state.keep == 0, -torch.inf)
        bias = absent if bias is None else bias + absent
    return None if bias is None else F.pad(bias, (state.prefix, 0))[:, None, None]


def project_attention(attention: TimmModule, mixed: Tensor) -> Tensor:
    """The attention's output projection."""
    return attention.proj_drop(attention.proj(mixed))


def before_attention(block: TimmModule, tokens: Tensor) -> Tensor:
    """What attention reads: the tokens normed, or as they are where the norm comes after (post-norm)."""
    return tokens if isinstance(block, POST_NORM) else block.norm1(tokens)


def before_mlp(block: TimmModule, tokens: Tensor) -> Tensor:
    """What the MLP reads."""
    return tokens if isinstance(block, POST_NORM) else block.norm2(tokens)


def projects_linearly(block: TimmModule) -> bool:
    """Whether what attention adds to a token is linear in what it gathered: not under a norm (post-norm)."""
    return not isinstance(block, POST_NORM)


def after_attention(block: TimmModule, update: Tensor) -> Tensor:
    """Post-norm, LayerScale and drop path of the attention's residual, under any of timm's names."""
    return _residual(block, update, "1")


def after_mlp(block: TimmModule, update: Tensor) -> Tensor:
    """Post-norm, LayerScale and drop path of the MLP's residual."""
    return _residual(block, update, "2")


def set_drop_path(vit: TimmModule, rate: float) -> None:
    """Skip residual branches at random in training: none in the first block, `rate` in the last, in a
    straight line between, as timm does."""
    for index, block in enumerate(vit.blocks):
        share = rate * index / max(len(vit.blocks) - 1, 1)
        for half in "12":
            setattr(block, f"drop_path{half}", DropPath(share) if share > 0 else Identity())


def _residual(block: TimmModule, update: Tensor, half: str) -> Tensor:
    if isinstance(block, POST_NORM):
        update = getattr(block, f"norm{half}")(update)
    gamma = getattr(block, f"gamma_{half}", None)  # EvaBlock keeps LayerScale as a bare parameter
    if gamma is not None:
        update = gamma * update
    scale = getattr(block, f"ls{half}", None)
    if scale is not None:
        update = scale(update)
    return getattr(block, f"drop_path{half}")(update)


def _project(attention: TimmModule, normed: Tensor, rows: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (of the first `rows` tokens), keys and values, [B, H, T, d] each, from a fused or a split
    projection."""
    asking = normed if rows is None else normed[:, :rows]
    if getattr(attention, "qkv", None) is None:
        queries, keys, values = attention.q_proj(asking), attention.k_proj(normed), attention.v_proj(normed)
    else:
        extra = _separate_bias(attention)
        width = attention.qkv.out_features // 3
        if rows is None or not computes_rows(attention.qkv):
            joint = attention.qkv(normed) if extra is None else attention.qkv(normed) + extra
            queries, keys, values = joint.split(width, dim=-1)
            queries = queries if rows is None else queries[:, :rows]
        else:
            queries = linear_rows(attention.qkv, asking, slice(0, width))
            keys, values = linear_rows(attention.qkv, normed, slice(width, 3 * width)).split(width, dim=-1)
            if extra is not None:
                queries, keys, values = (
                    queries + extra[:width],
                    keys + extra[width : 2 * width],
                    values + extra[2 * width :],
                )
    heads = attention.num_heads
    shared = heads // _groups(attention)
    return split_heads(queries, heads), split_heads(keys, shared), split_heads(values, shared)


def _queries(attention: TimmModule, normed: Tensor) -> Tensor:
    """Queries alone, [B, H, T, d]."""
    if getattr(attention, "qkv", None) is None:
        return split_heads(attention.q_proj(normed), attention.num_heads)
    width, extra = attention.qkv.out_features // 3, _separate_bias(attention)
    queries = linear_rows(attention.qkv, normed, slice(0, width))
    return split_heads(queries if extra is None else queries + extra[:width], attention.num_heads)


def _groups(attention: TimmModule) -> int:
    """How many heads of queries share one head of keys and values."""
    return int(getattr(attention, "num_kv_groups", 1))


def _repeated(attention: TimmModule, shared: Tensor) -> Tensor:
    """Keys or values for every head of queries: [B, H/groups, T, d] -> [B, H, T, d]."""
    groups = _groups(attention)
    return shared if groups == 1 else shared.repeat_interleave(groups, dim=1)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, T, H*d] -> [B, H, T, d]


def _separate_bias(attention: TimmModule) -> Tensor | None:
    """EVA keeps query and value bias apart from a bias-free qkv layer (and reads `qkv.weight` directly)."""
    if getattr(attention, "q_bias", None) is None:
        return None
    return torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))


def call_biased_qkv(vit: TimmModule) -> None:
    """Make timm's own forward heed a bias that merging gave qkv; EVA's reads only its weight otherwise."""
    for block in vit.blocks:
        if _separate_bias(block.attn) is not None and block.attn.qkv.bias is not None:
            block.attn.qkv_bias_separate = True


def _table_at(rotary: Tensor, position: Tensor) -> Tensor:
    """The rotary table of the cells the tokens sit on: [N0, 2d] -> [B, 1, N, 2d], [H, N0, 2d] -> [B, H, N,
    2d]."""
    if rotary.ndim == 2:
        return rotary[position][:, None]
    return rotary[:, position].transpose(0, 1)


def _rotate(tokens: Tensor, table: Tensor, prefix: int, half: bool, like: Tensor) -> Tensor:
    """Rotate the patches of [B, H, T, d]; prefix tokens have no place."""
    turned = apply_rot_embed_cat(tokens[:, :, prefix:], table, half=half)
    return torch.cat([tokens[:, :, :prefix], turned], dim=2).type_as(like)


def head_width(attention: TimmModule) -> int:
    """d, the width of one attention head's keys."""
    fused = getattr(attention, "qkv", None)
    width = attention.q_proj.out_features if fused is None else fused.out_features // 3
    return width // attention.num_heads
