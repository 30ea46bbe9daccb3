"""Scores of weights taken the slow and obvious way, and the batches to take them on."""

import torch
from torch import Tensor
from torch.nn import functional as F
from toys import images

from vitrim.methods.selection.candidates import candidates
from vitrim.network.model import StagedViT


def batches_for(model: StagedViT, count: int = 2, size: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    return [
        (images(model, size, seed=10 + k), torch.randint(0, 5, (size,), generator=generator))
        for k in range(count)
    ]


def naive_scores(
    model: StagedViT, batches: list[tuple[Tensor, Tensor]], measure: str, patch: bool
) -> dict[str, Tensor]:
    """Whole gradients of a copy, kept for each image or batch."""
    weights = {c.name: c.layer.weight for c in candidates(model, patch)}
    for weight in weights.values():
        weight.requires_grad_(True)
    if measure == "per_sample":
        batches = [(x[i : i + 1], y[i : i + 1]) for x, y in batches for i in range(len(x))]
    gradients = [
        torch.autograd.grad(F.cross_entropy(model.eval()(x), y), list(weights.values())) for x, y in batches
    ]
    for weight in weights.values():
        weight.requires_grad_(False)
    by_weight = [torch.stack(each).flatten(2) for each in zip(*gradients, strict=True)]
    scores = [each.sum(0).abs() if measure == "gradient" else each.square().mean(0) for each in by_weight]
    return dict(zip(weights, scores, strict=True))
