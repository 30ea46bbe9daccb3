"""One pass over the training images: forward, backward, step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from vitrim.batches import Batches
from vitrim.progress import Progress
from vitrim.training import Training

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECK_EVERY = 10  # steps between looks at the loss: each look waits for the device


def train_epoch(
    learner: nn.Module, loader: Batches, optimizer: torch.optim.Optimizer, trained: list[nn.Parameter],
    training: Training, epoch: int, accelerator: Accelerator, progress: Progress,
) -> float:  # fmt: skip
    """One pass over the training images; the mean loss."""
    learner.train()
    total = torch.zeros((), device=accelerator.device)
    for step, (images, labels) in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate(epoch + step / len(loader))
        with accelerator.accumulate(learner):
            loss = learner(images, labels)
            accelerator.backward(loss)
            if training.clip_grad is not None and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(trained, training.clip_grad)
            optimizer.step()
            optimizer.zero_grad()
        total += loss.detach()
        if (step + 1) % CHECK_EVERY == 0 or step + 1 == len(loader):
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
