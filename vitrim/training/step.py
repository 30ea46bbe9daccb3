"""One training step: forward, backward and AdamW, beside full fine-tuning of the plain backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.network.copying import copied
from vitrim.network.model import StagedViT
from vitrim.settings.training import Training
from vitrim.training.losses import WithLoss


def composed_step(model: StagedViT, batch: int, device: torch.device) -> Callable[[], None]:
    """A step of a copy, as `vitrim.train` makes it: what trains is trained, the rest stays frozen."""
    own = copied(model).to(device).train()
    loss = WithLoss(own, Training()).to(device)
    images, labels = _images(model, batch, device), _labels(model, batch, device)
    return _step(lambda: loss(images, labels), own.trained().values())


def plain_step(model: StagedViT, batch: int, device: torch.device) -> Callable[[], None]:
    """A step in which all of timm's own model trains; `model` has nothing left to fold."""
    vit: nn.Module = copied(model.alone()).to(device).train().requires_grad_(True)
    images, labels = _images(model, batch, device), _labels(model, batch, device)
    if model.task == "classify":
        return _step(lambda: F.cross_entropy(vit(images), labels), vit.parameters())
    return _step(lambda: F.mse_loss(vit(images), labels), vit.parameters())


def _step(loss: Callable[[], Tensor], weights: Iterable[nn.Parameter]) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(weights, lr=1e-5)

    def step() -> None:
        loss().backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def _images(model: StagedViT, batch: int, device: torch.device) -> Tensor:
    return torch.randn((batch, *model.input_shape()), generator=torch.Generator().manual_seed(0)).to(device)


def _labels(model: StagedViT, batch: int, device: torch.device) -> Tensor:
    if model.task == "classify":
        return torch.arange(batch, device=device) % model.num_classes
    return (torch.arange(batch * model.num_classes, device=device) % 2).float().view(batch, -1)
