"""How timm's models attend; the blocks around are in blocks.py. Only this file and its neighbours name parts.

Six model classes cover the families vitrim supports: `VisionTransformer` (ViT, DeiT, CLIP, SigLIP, DINOv2,
InternViT, hybrids, ViTamin, parallel blocks), `Eva` (EVA-02, DINOv3, Perception Encoder, Sapiens2), `Beit`,
`VisionTransformerRelPos`, `Cait` and `NaFlexVit` (SigLIP 2, C-RADIO). Whatever else a model has is refused by
`vitrim.backbones.support.check_support`, never ignored.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import Identity
from torch.nn import functional as F

from vitrim.backbones.combined_heads import differential, talking_heads
from vitrim.backbones.places import Places, Turning, relative_bias, turning
from vitrim.backbones.row_attention import attend_in_rows
from vitrim.backbones.size_attention import attend_by_sizes
from vitrim.backbones.support import (
    DiffAttention,
    TalkingHeadAttn,
    TimmModule,
    attentions,
    fused_projection,
    part_of,
)
from vitrim.backbones.tuned_linear import computes_rows, linear_rows
from vitrim.tokens.attended import Attended, Source
from vitrim.tokens.ragged import in_one_row
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
    asking = None if rows is None else partial(state.leading, rows=rows)
    queries, plain_keys, values = _project(attention, normed, asking)
    if part_of(attention, "q_norm") is not None:
        queries, plain_keys = attention.q_norm(queries), attention.k_norm(plain_keys)
    turn = turning(attention, state, places)
    queries = turn(queries, values) if rows is None else queries
    keys, values = _repeated(attention, turn(plain_keys, values)), _repeated(attention, values)
    if state.ragged is not None:
        projected = queries, keys, plain_keys, values
        return _attend_ragged(attention, normed, projected, state, proportional, rows)
    bias = key_bias = attention_bias(state, proportional, padded=mixing is None)
    relative = relative_bias(attention, places.shared, state, rows)
    if relative is not None:
        bias = relative if bias is None else bias + relative
    sizes_alone = proportional and relative is None and state.keep is None
    mixed, weights, subtracted = _mix(attention, (queries, keys, values), bias, state, mixing, sizes_alone)
    mixed = joined_heads(attention, mixed, normed if rows is None else normed[:, :rows])
    keep = state.keep if mixing is None else None  # while masks are learned, every query counts
    seen = Attended(
        queries, keys, plain_keys, attention.scale, bias, state.prefix, keep, weights, subtracted, values,
        key_bias, Source(normed, lambda again: project_keys(attention, again, turn)),
    )  # fmt: skip
    return mixed, seen


def _attend_ragged(
    attention: TimmModule,
    normed: Tensor,
    projected: tuple[Tensor, Tensor, Tensor, Tensor],
    state: TokenState,
    proportional: bool,
    rows: int | None,
) -> tuple[Tensor, Attended]:
    """The same of images in one row; with `rows`, of a batch from there on: [B, rows, D']."""
    queries, keys, plain_keys, values = projected
    assert state.ragged is not None
    lengths, images = state.ragged.lengths(state.prefix), len(state.ragged.counts)
    sizes = None
    if proportional:
        sizes = in_one_row(F.pad(state.sizes.log(), (state.prefix, 0)), lengths)  # [1, S]
    asked = queries if rows is None else queries.transpose(0, 1).flatten(1, 2)[None]  # [1, H, S, d]

    def once(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, None]:
        return attend_in_rows(queries, keys, values, lengths, sizes, rows), None

    if isinstance(attention, DiffAttention):
        mixed, _, subtracted = differential(attention, asked, keys, values, once)
    else:
        mixed, subtracted = once(asked, keys, values)[0], None
    if rows is not None:
        mixed = mixed[0].unflatten(1, (images, rows)).transpose(0, 1)  # [B, H, rows, d]
    mixed = joined_heads(attention, mixed, normed if rows is None else state.leading(normed, rows))
    bias = None if sizes is None else sizes[:, None, None]  # [1, 1, 1, S]
    return mixed, Attended(
        queries, keys, plain_keys, attention.scale, bias, state.prefix, state.keep, None, subtracted, values,
        bias, ragged=state.ragged,
    )  # fmt: skip


def runs_ragged(attention: TimmModule) -> bool:
    """Whether images in one row can attend each among its own tokens: not with a bias for each pair of
    tokens, nor where heads are mixed."""
    biased = any(part_of(attention, name) is not None for name in ("rel_pos", "relative_position_bias_table"))
    return not biased and not isinstance(attention, TalkingHeadAttn)


def joined_heads(attention: TimmModule, mixed: Tensor, normed: Tensor) -> Tensor:
    """The heads side by side, under the attention's norm and gate where it has them: [B, T, D']."""
    mixed = mixed.transpose(1, 2).flatten(2)
    norm = part_of(attention, "norm")
    mixed = mixed if norm is None else norm(mixed)
    gate = part_of(attention, "gate")
    return mixed if gate is None else mixed * gate(normed).sigmoid()


def _mix(
    attention: TimmModule,
    projected: tuple[Tensor, Tensor, Tensor],
    bias: Tensor | None,
    state: TokenState,
    mixing: AttentionMixing | None,
    sizes_alone: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """What the tokens receive [B, H, T, d], the attention where it was not fused, and the share by which the
    second of two softmaxes is subtracted."""
    dropout = attention.attn_drop.p if attention.training else 0.0

    def once(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor | None]:
        if mixing is not None:
            return mixing(queries, keys, values, attention.scale, bias, state)
        if sizes_alone and bias is not None:
            return attend_by_sizes(queries, keys, values, bias, dropout), None
        mask = None if bias is None else bias.to(queries.dtype)
        fused = F.scaled_dot_product_attention
        return fused(queries, keys, values, attn_mask=mask, dropout_p=dropout), None

    if isinstance(attention, TalkingHeadAttn):
        return *talking_heads(attention, *projected, bias), None
    if isinstance(attention, DiffAttention):
        return differential(attention, *projected, once)
    return *once(*projected), None


def attention_bias(state: TokenState, proportional: bool, padded: bool = True) -> Tensor | None:
    """What is added to every product with a key: log sizes, and minus infinity for padding. [B, 1, 1, T] or
    None."""
    bias = state.sizes.log() if proportional else None
    if state.keep is not None and padded:
        absent = torch.zeros_like(state.sizes).masked_fill(state.keep == 0, -torch.inf)
        bias = absent if bias is None else bias + absent
    return None if bias is None else F.pad(bias, (state.prefix, 0)).unflatten(0, (-1, 1, 1))


def _project(
    attention: TimmModule, normed: Tensor, asking: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, [B, H, T, d] each, from a fused or a split projection; queries of the tokens
    that `asking` takes out, or of all."""
    asked = normed if asking is None else asking(normed)
    fused = fused_projection(attention)
    if fused is None:
        queries, keys, values = attention.q_proj(asked), attention.k_proj(normed), attention.v_proj(normed)
    else:
        layer, own = fused
        extra = _separate_bias(attention)
        width = (own.stop - own.start) // 3
        if asking is None or not computes_rows(layer):
            joint = linear_rows(layer, normed, own) if own.start else layer(normed)
            joint = joint if extra is None else joint + extra
            if asking is None and not isinstance(attention, DiffAttention):  # all have as many heads
                queries, keys, values = (
                    joint.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
                )
                return queries, keys, values
            queries, keys, values = joint.split(width, dim=-1)
            queries = queries if asking is None else asking(queries)
        else:
            split = own.start + width
            queries = linear_rows(layer, asked, slice(own.start, split))
            keys, values = linear_rows(layer, normed, slice(split, own.stop)).split(width, dim=-1)
            if extra is not None:
                queries, keys, values = (
                    queries + extra[:width],
                    keys + extra[width : 2 * width],
                    values + extra[2 * width :],
                )
    heads = attention.num_heads
    softmaxes = 2 * heads if isinstance(attention, DiffAttention) else heads
    shared = softmaxes // _groups(attention)
    return (
        split_heads(queries, softmaxes),
        split_heads(keys, shared),
        split_heads(values, heads // _groups(attention)),
    )


def changes_heads(attention: TimmModule) -> bool:
    """Whether what the heads give is normed or gated before the output projection."""
    normed = not isinstance(getattr(attention, "norm", None), Identity | None)
    return normed or getattr(attention, "gate", None) is not None


def project_keys(attention: TimmModule, normed: Tensor, turn: Turning | None = None) -> tuple[Tensor, Tensor]:
    """Keys and values, [B, H, T, d] each, for every head of queries; without `turn`, keys of no place."""
    _, keys, values = _project(attention, normed, lambda tokens: tokens[:, :0])
    keys = attention.k_norm(keys) if hasattr(attention, "k_norm") else keys
    keys = keys if turn is None else turn(keys, values)
    return _repeated(attention, keys), _repeated(attention, values)


def queries_alone(attention: TimmModule, normed: Tensor) -> Tensor:
    """Queries alone, [B, H, T, d]."""
    fused, extra = fused_projection(attention), _separate_bias(attention)
    if fused is None:
        return split_heads(attention.q_proj(normed), attention.num_heads)
    layer, own = fused
    width = (own.stop - own.start) // 3
    queries = linear_rows(layer, normed, slice(own.start, own.start + width))
    return split_heads(queries if extra is None else queries + extra[:width], attention.num_heads)


def _groups(attention: TimmModule) -> int:
    """How many heads of queries share one head of keys and values."""
    return int(part_of(attention, "num_kv_groups") or 1)


def _repeated(attention: TimmModule, shared: Tensor) -> Tensor:
    """Keys or values for every head of queries: [B, H/groups, T, d] -> [B, H, T, d]."""
    groups = _groups(attention)
    return shared if groups == 1 else shared.repeat_interleave(groups, dim=1)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, T, H*d] -> [B, H, T, d]


def _separate_bias(attention: TimmModule) -> Tensor | None:
    """EVA keeps query and value bias apart from a bias-free qkv layer (and reads `qkv.weight` directly)."""
    if part_of(attention, "q_bias") is None:
        return None
    return torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))


def call_biased_qkv(vit: TimmModule) -> None:
    """Make timm's own forward heed a bias that merging gave qkv; EVA's reads only its weight otherwise."""
    for attention in (each for block in vit.blocks for each in attentions(block)):
        if _separate_bias(attention) is not None and attention.qkv.bias is not None:
            attention.qkv_bias_separate = True


def key_width(block: TimmModule) -> int:
    """d, the width of one attention head's keys."""
    attention = attentions(block)[0]
    fused = fused_projection(attention)
    width = attention.q_proj.out_features if fused is None else (fused[1].stop - fused[1].start) // 3
    softmaxes = 2 if isinstance(attention, DiffAttention) else 1
    return int(width // (attention.num_heads * softmaxes))
