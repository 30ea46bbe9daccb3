"""What the plain backbone computes, counted like a composition."""

from __future__ import annotations

import torch

from vitrim.measuring.counting import MacCounter, counting, without_values
from vitrim.network.model import StagedViT


@torch.inference_mode(False)
def plain_macs(model: StagedViT) -> int:
    """Multiply-accumulates of timm's own forward pass for one image, whatever stands beside the backbone.

    `model` must have nothing left to fold: a layer that was not folded counts what it adds.
    """
    twin = without_values(model)
    like = next(twin.vit.parameters())
    images = torch.empty(1, *model.input_shape(), dtype=like.dtype, device=like.device)
    counter = MacCounter()
    with counting(counter):
        twin.alone()(images)
    return counter.total
