"""One pass over the training images: forward, backward, step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from vitrim.network.budgeting import draw_budgets
from vitrim.network.model import StagedViT
from vitrim.runs.batches import Batches
from vitrim.settings.training import Training
from vitrim.training.averaging import RunningMean
from vitrim.training.mixup import Mixup
from vitrim.training.optimising import set_rates
from vitrim.training.progress import Progress

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECK_EVERY = 10  # steps between looks at the loss: each look waits for the device


@dataclass(frozen=True)
class Learning:
    """What one pass works with."""

    learner: nn.Module
    loader: Batches
    optimizer: torch.optim.Optimizer
    mixing: Mixup | None
    mean: RunningMean
    training: Training
    accelerator: Accelerator
    model: StagedViT  # whose methods follow the epochs, and draw what they keep in each step


def train_epoch(learning: Learning, epoch: int, progress: Progress) -> float:
    """One pass over the training images; the mean loss."""
    learner, optimizer, accelerator = learning.learner, learning.optimizer, learning.accelerator
    training, steps = learning.training, len(learning.loader)
    learner.train()
    total = torch.zeros((), device=accelerator.device)
    for step, (images, labels) in enumerate(learning.loader):
        set_rates(optimizer, training, epoch + step / steps)
        draw_budgets(learning.model, training.seed, epoch, step)
        if learning.mixing is not None:
            images, labels = learning.mixing(images, labels)
        with accelerator.accumulate(learner):
            loss = learner(images, labels)
            accelerator.backward(loss)
            if training.clip_grad is not None and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(learning.mean.trained, training.clip_grad)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            learning.mean.update()
        progress.pace(epoch, step)
        total += loss.detach()
        if (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:
            mean = accelerator.reduce(total, "mean").item() / (step + 1)
            check_finite(mean, epoch, step)
            progress.step(epoch, step, mean)
    return mean


def check_finite(loss: float, epoch: int, step: int) -> None:
    if not math.isfinite(loss):
        kept = f"the checkpoint after epoch {epoch} is intact" if epoch else "no epoch was finished"
        raise FloatingPointError(
            f"the loss is no longer a number (epoch {epoch + 1}, step {step + 1}); {kept}; "
            "start a new run with a lower lr or with clip_grad=1"
        )
