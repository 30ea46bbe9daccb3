"""One block of a backbone, part by part: what its attention and its MLP read, and what they give.

    x' = x + attention(norm x),   x'' = x' + MLP(norm x')      most blocks; post-norm: the norm comes after
    x' = x + sum_i attention_i(norm_i x), then the MLPs alike  several beside each other ("18x2")
    x'' = x + attention(norm x) + MLP(norm x)                  one norm and one input layer for both ("xp")

Reducers stand between attention and MLP in all of them. Where both read the same norm, its result is reduced
together with the tokens, and the MLP reads what is left of it.
"""

import torch
from timm.layers import DropPath
from timm.models.cait import LayerScaleBlock
from timm.models.vision_transformer import ParallelScalingBlock, ParallelThingsBlock
from torch import Tensor
from torch.nn import Identity

from vitrim.backbones.asking import answers, ask
from vitrim.backbones.bridge import (
    AttentionMixing,
    attend,
    changes_heads,
    key_width,
    project_keys,
)
from vitrim.backbones.places import Places
from vitrim.backbones.support import POST_NORM, TimmModule, attentions, part_of
from vitrim.backbones.tuned_linear import linear_rows
from vitrim.tokens.attended import Attended, beside
from vitrim.tokens.state import TokenState


def attend_in(
    block: TimmModule,
    normed: Tensor,
    state: TokenState,
    places: Places | None = None,
    proportional: bool = False,
    rows: int | None = None,
    mixing: AttentionMixing | None = None,
) -> tuple[Tensor, Attended]:
    """Attention of a block, up to its output projection; several at once have their heads side by side. See
    `attend`."""
    if not _is_several(block):
        return attend(attentions(block)[0], normed, state, places, proportional, rows, mixing)
    found = [
        attend(each.attn, each.norm(normed), state, places, proportional, rows, mixing)
        for each in block.attns
    ]
    return torch.cat([mixed for mixed, _ in found], dim=-1), beside([seen for _, seen in found])


def project_attention(block: TimmModule, mixed: Tensor) -> Tensor:
    """The attention's output projection."""
    if shares_norm(block):
        return block.attn_out_proj(mixed)
    if _is_several(block):
        parts = zip(block.attns, mixed.chunk(len(block.attns), dim=-1), strict=True)
        projected = [
            each.drop_path(each.ls(each.attn.proj_drop(each.attn.proj(part)))) for each, part in parts
        ]
        return torch.stack(projected).sum(0)
    return block.attn.proj_drop(block.attn.proj(mixed))


def answer(block: TimmModule, asking: Tensor, attended: Attended) -> tuple[Tensor, Tensor]:
    """What the attention and the MLP of a block add to tokens outside the sequence, one after the other, the
    sequence being what they attend to: [B, q, D] each."""
    normed = before_attention(block, asking)
    mixed = ask(attentions(block)[0], normed, attended)
    attention = after_attention(block, project_attention(block, mixed))
    read = before_mlp(block, asking + attention, normed if shares_norm(block) else None)
    return attention, after_mlp(block, mlp(block, read))


def can_answer(block: TimmModule) -> bool:
    """Whether `answer` knows how: one attention, whose heads keep apart."""
    return not _is_several(block) and answers(attentions(block)[0])


def keys_and_values(block: TimmModule, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """What a block's attention makes of tokens that have no place in the sequence: [1, n, D] -> [1, H, n, d]
    each."""
    return project_keys(attentions(block)[0], before_attention(block, tokens))


def heads_of(block: TimmModule) -> tuple[int, int] | None:
    """H and d of a block's attention; None where what its heads give is normed, gated, mixed or one of
    several."""
    if not can_answer(block):
        return None
    attention = attentions(block)[0]
    return None if changes_heads(attention) else (attention.num_heads, key_width(block))


def before_attention(block: TimmModule, tokens: Tensor) -> Tensor:
    """What attention reads: the tokens normed, or as they are where the norm comes after (post-norm) or each
    of several attentions has its own."""
    if shares_norm(block):
        return block.in_norm(tokens)
    return tokens if isinstance(block, (*POST_NORM, ParallelThingsBlock)) else block.norm1(tokens)


def before_mlp(block: TimmModule, tokens: Tensor, entered: Tensor | None = None) -> Tensor:
    """What the MLP reads; `entered` is what attention read of the tokens that are left, where both share a
    norm."""
    if entered is not None:
        return entered
    return tokens if isinstance(block, (*POST_NORM, ParallelThingsBlock)) else block.norm2(tokens)


def mlp(block: TimmModule, normed: Tensor) -> Tensor:
    """The MLP, or the sum of several."""
    if _is_several(block):
        return torch.stack([each(normed) for each in block.ffns]).sum(0)
    if not shares_norm(block):
        return block.mlp(normed)
    hidden = linear_rows(block.in_proj, normed, slice(0, block.in_split[0]))
    hidden = hidden if block.mlp_bias is None else hidden + block.mlp_bias
    return block.mlp_out_proj(block.mlp_drop(block.mlp_act(hidden)))


def shares_norm(block: TimmModule) -> bool:
    """Whether the MLP reads the norm that attention read, of the tokens as they entered."""
    return isinstance(block, ParallelScalingBlock)


def _is_several(block: TimmModule) -> bool:
    """Whether several attentions, then several MLPs, run beside each other."""
    return isinstance(block, ParallelThingsBlock)


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
        if share and shares_norm(block):
            raise ValueError(
                f"drop path {rate:g} cannot be set: block {index} skips attention and MLP together, which "
                "vitrim runs apart; leave it at 0"
            )
        owners = [*block.attns, *block.ffns] if _is_several(block) else [block]
        for owner in owners:
            for name in ("drop_path", "drop_path1", "drop_path2"):
                if hasattr(owner, name):
                    setattr(owner, name, DropPath(share) if share > 0 else Identity())


def _residual(block: TimmModule, update: Tensor, half: str) -> Tensor:
    if _is_several(block):
        return update  # each of its parts has its own
    if shares_norm(block):
        return block.ls(update)
    if isinstance(block, POST_NORM):
        update = getattr(block, f"norm{half}")(update)
    gamma = part_of(block, f"gamma_{half}")  # EvaBlock keeps LayerScale as a bare parameter
    if gamma is not None:
        update = gamma * update
    scale = part_of(block, f"ls{half}")
    if scale is not None:
        update = scale(update)
    skipped = part_of(block, "drop_path" if isinstance(block, LayerScaleBlock) else f"drop_path{half}")
    return skipped(update)
