"""The learning-rate curve that training settings describe."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitrim.settings.training import Training


def rate_at(training: Training, progress: float) -> float:
    """The learning rate after `progress` epochs: warm-up, then the schedule, then the cool-down."""
    if training.lr_updates == "epoch":
        progress = int(progress)
    if training.schedule == "release":
        return _as_released(training, int(progress))
    if progress < training.warmup:
        return _warming(training, progress)
    if progress >= training.epochs and training.cooldown_epochs:
        return training.min_lr
    if training.schedule == "constant" or training.epochs == training.warmup:
        return training.peak
    done = (progress - training.warmup) / (training.epochs - training.warmup)
    return _cosine(training, done)


def _as_released(training: Training, epoch: int) -> float:
    # The releases set the rate from the index of the epoch that just ended; the cosine starts at epoch 0.
    finished = max(epoch - 1, 0)
    if finished < training.warmup:
        return _warming(training, finished)
    return _cosine(training, finished / training.epochs)


def _warming(training: Training, progress: float) -> float:
    return training.warmup_lr + (training.peak - training.warmup_lr) * progress / training.warmup


def _cosine(training: Training, done: float) -> float:
    return training.min_lr + (training.peak - training.min_lr) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
