"""How timm's models pool and classify, for sequences that were reduced: every token counts by its size."""

import torch
from timm.models.cait import Cait
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from torch import Tensor, nn

from vitrim.backbones.bridge import split_heads
from vitrim.backbones.class_attention import with_class_token
from vitrim.backbones.support import TimmModule
from vitrim.backbones.tuned_linear import linear_rows
from vitrim.backbones.weighing import log_sizes, pool_weights
from vitrim.tokens.state import TokenState, without_autocast


def rows_read_by_head(vit: TimmModule) -> int | None:
    """How many prefix tokens the head reads, None if it reads the patches: class token 1, distilled pair
    2."""
    if is_distilled(vit):
        return 2
    if isinstance(vit, Cait):
        return None  # its class token enters after the blocks and reads all patches
    return 1 if not has_attention_pool(vit) and vit.global_pool == "token" else None


def has_attention_pool(vit: TimmModule) -> bool:
    """Whether the head pools by attention; BEiT and the relative-position ViTs never do."""
    return getattr(vit, "attn_pool", None) is not None


def classify(vit: TimmModule, state: TokenState) -> Tensor:
    """Final norm, pooling that weighs every token by its size, and head: timm's `forward_head` for reduced
    sequences."""
    tokens, state = last_tokens(vit, state)
    if is_distilled(vit):
        return classify_features(vit, tokens[:, 0], tokens[:, 1])
    return classify_features(vit, after_pooling(vit, pool(vit, tokens, state)))


def last_tokens(vit: TimmModule, state: TokenState) -> tuple[Tensor, TokenState]:
    """What is pooled: the final norm of all tokens [B, T, D], CaiT's class token among them, and the state
    they are of."""
    if isinstance(vit, Cait):
        state = with_class_token(vit, state)
    return vit.norm(state.tokens), state


def after_pooling(vit: TimmModule, pooled: Tensor) -> Tensor:
    """The norm between pooling and classifier, where the backbone has one."""
    return vit.fc_norm(pooled) if hasattr(vit, "fc_norm") else pooled


def classify_features(vit: TimmModule, given: Tensor, second: Tensor | None = None) -> Tensor:
    """Logits of what takes the place of the pooled tokens [B, D]; of a distilled pair of classifiers, each
    reads its own, or both the same."""
    if is_distilled(vit):
        other = given if second is None else second
        return (vit.head(vit.head_drop(given)) + vit.head_dist(vit.head_drop(other))) / 2
    return vit.head(vit.head_drop(given))


def is_distilled(vit: TimmModule) -> bool:
    """Whether two classifiers read two tokens."""
    return isinstance(vit, VisionTransformerDistilled)


def normalise_before_head(vit: TimmModule, norm: nn.Module) -> None:
    """Let `norm` change what the classifier reads; refused a second time."""
    if isinstance(vit.head_drop, nn.Sequential):
        raise ValueError(
            "the classifier is normalised already; give BatchNormHead or head=batchnorm, not both"
        )
    vit.head_drop = nn.Sequential(vit.head_drop, norm)


def features(vit: TimmModule, state: TokenState) -> Tensor:
    """What the head reads (of a distilled pair, its first token's), after the final norm. [B, D]"""
    return after_pooling(vit, pool(vit, *last_tokens(vit, state)))


def pool(vit: TimmModule, tokens: Tensor, state: TokenState) -> Tensor:
    """Class token, size-weighted average, maximum, or attention pool with log sizes as bias. [B, T, D] -> [B,
    D]"""
    if not has_attention_pool(vit) and vit.global_pool == "token":
        return tokens[:, 0]
    include_prefix = _pools_prefix(vit)
    reduced = not state.full or state.keep is not None
    weights = pool_weights(state)  # [B, T]
    if not include_prefix:
        tokens, weights = tokens[:, state.prefix :], weights[:, state.prefix :]
    if has_attention_pool(vit):
        mask = log_sizes(weights)[:, None, None].to(tokens.dtype) if reduced else None
        return vit.attn_pool(tokens, attn_mask=mask)
    if not vit.global_pool:
        return tokens
    share = (weights / weights.sum(1, keepdim=True))[..., None].to(tokens.dtype)
    mean = (tokens * share).sum(1) if reduced else tokens.mean(1)
    largest = tokens.masked_fill(weights[..., None] == 0, -torch.inf).amax(1) if reduced else tokens.amax(1)
    return {"avg": mean, "max": largest, "avgmax": (mean + largest) / 2}[vit.global_pool]


def _pools_prefix(vit: TimmModule) -> bool:
    """Whether prefix tokens are pooled with the patches: EVA's attention pool always takes all of them."""
    return bool(getattr(vit, "pool_include_prefix", False)) or (
        has_attention_pool(vit) and isinstance(vit, Eva)
    )


def pool_attention(vit: TimmModule, state: TokenState) -> Tensor:
    """What an attention pool would give each patch if these were the last tokens, the mean over its heads.
    [B, N]

    Final norm, the pool's own query and key maps and the log-size bias, as `pool` applies them at the end.
    """
    with_prefix = _pools_prefix(vit)
    tokens, weights = vit.norm(state.tokens), pool_weights(state)
    if not with_prefix:
        tokens, weights = tokens[:, state.prefix :], weights[:, state.prefix :]
    latent, width = vit.attn_pool, vit.attn_pool.kv.out_features // 2
    queries = latent.q_norm(split_heads(latent.q(latent.latent), latent.num_heads))  # [1, H, L, d]
    keys = latent.k_norm(
        split_heads(linear_rows(latent.kv, tokens, slice(0, width)), latent.num_heads)
    )  # [B, H, T, d]
    precise = weights.dtype
    with without_autocast(tokens.device):
        scores = (queries.to(precise) * latent.scale) @ keys.to(precise).transpose(-2, -1)  # [B, H, L, T]
        scores = (scores + log_sizes(weights)[:, None, None]).softmax(-1).mean((1, 2))
    return scores[:, state.prefix :] if with_prefix else scores
