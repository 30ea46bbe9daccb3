"""The last block of CLIP with the attention of another model (ProxyCLIP, arXiv 2408.04883), written from its
description.

    S = cosine similarity of the other model's cells
    A = gamma (S - beta mean(S)),  gamma 3, beta 1.2;  cells with A < 0 get no attention
    out = softmax(A) V W + b

V are the block's own values of the patches, bilinearly resized to the other model's grid; there is no
residual and no MLP. The mean is over the cells of one image (the released code takes it over the batch, so
that there an image's result depends on the others), and where it leaves a cell nothing to attend to, the cell
attends to itself (there the release gives NaN).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.backbones.blocks import (
    after_attention,
    before_attention,
    heads_of,
    project_attention,
)
from vitrim.backbones.bridge import project_keys
from vitrim.backbones.support import TimmModule, attentions
from vitrim.tokens.state import at_least_float32, without_autocast

BETA, GAMMA = 1.2, 3.0


def proxy_attention(features: Tensor, beta: float = BETA, gamma: float = GAMMA) -> Tensor:
    """What each cell attends to: [B, C, rows, columns] -> [B, N, N], rows sum to one."""
    with without_autocast(features.device):
        cells = features.flatten(2).transpose(1, 2).to(at_least_float32(features.dtype))  # [B, N, C]
        directions = F.normalize(cells, dim=-1)
        alike = directions @ directions.transpose(1, 2)  # [B, N, N]
        found = gamma * (alike - beta * alike.mean((1, 2), keepdim=True))
        away = found < 0
        itself = torch.eye(found.shape[1], dtype=torch.bool, device=found.device)
        away = away & ~(itself & away.all(-1, keepdim=True))
        return found.masked_fill(away, -torch.inf).softmax(-1)


def proxied_last_block(
    block: TimmModule, patches: Tensor, proxy: Tensor, beta: float = BETA, gamma: float = GAMMA
) -> Tensor:
    """What the last block gives for every cell of the other model's grid.

    Args:
        block: the timm block.
        patches: [B, D, rows, columns], what enters it, every patch present.
        proxy: [B, C, rows', columns'], the other model's features.

    Returns:
        [B, D, rows', columns'].
    """
    tokens = patches.flatten(2).transpose(1, 2)  # [B, N, D]
    _, values = project_keys(attentions(block)[0], before_attention(block, tokens))  # [B, H, N, d]
    grid, cells = patches.shape[-2:], proxy.shape[-2:]
    maps = values.transpose(2, 3).flatten(1, 2).unflatten(2, grid)  # [B, H*d, rows, columns]
    maps = F.interpolate(maps, size=cells, mode="bilinear", align_corners=False)
    attention = proxy_attention(proxy, beta, gamma).to(maps.dtype)
    mixed = attention @ maps.flatten(2).transpose(1, 2)  # every head attends alike: [B, N', H*d]
    out = after_attention(block, project_attention(block, mixed))
    return out.transpose(1, 2).unflatten(2, cells)


def check_can_be_proxied(block: TimmModule) -> None:
    """Refuse a last block whose heads are normed, gated, mixed or several."""
    if heads_of(block) is None:
        raise ValueError(
            "the last block's attention norms, gates or mixes its heads, so another attention cannot take "
            "its place; use proxied=False"
        )
