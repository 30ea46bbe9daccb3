"""What segmentation minimises, over which weights, on which batches."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.dense.classes import IGNORE
from vitrim.dense.heads import AUXILIARY, resized
from vitrim.dense.model import DenseModel
from vitrim.dense.plan import DensePlan
from vitrim.dense.source import DenseData
from vitrim.dense.transforms import JointChange
from vitrim.runs.batches import TrainingBatches
from vitrim.settings.training import Training
from vitrim.training.optimising import optimizer_over, parameter_groups


class DenseLearner(nn.Module):
    """Images and labels in, the loss out: cross-entropy of logits made as large as the labels, that of the
    auxiliary head with weight 0.4, and what methods add."""

    def __init__(self, model: DenseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        decoded = self.model.decode(images)
        loss = pixel_loss(decoded.logits, labels)
        if decoded.auxiliary is not None:
            loss = loss + AUXILIARY * pixel_loss(decoded.auxiliary, labels)
        return loss if decoded.penalty is None else loss + decoded.penalty


def pixel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over labelled pixels, zero where there are none. [B, K, rows, columns], [B, H, W]"""
    large = resized(logits, (int(labels.shape[-2]), int(labels.shape[-1])))
    total = F.cross_entropy(large.float(), labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def make_dense_optimizer(model: DenseModel, training: Training) -> torch.optim.Optimizer:
    """The optimiser of the settings over what methods added and the head; `rates` may name "head"."""
    rates = dict(training.rates or {})
    factor = rates.pop("head", 1.0)
    groups: list[dict[str, Any]] = []
    if model.staged.trained():
        groups = parameter_groups(model.staged, training.changed({"rates": rates or None}))
    elif rates or training.frozen_epochs:
        raise ValueError("rates and frozen_epochs name parts of the backbone, but nothing in it trains")
    for plain in (False, True):
        members = [each for each in model.head.parameters() if (each.ndim <= 1) == plain]
        decays = training.decayed == "all" or not plain
        decay = training.weight_decay if decays else 0.0
        groups.append({"params": members, "scale": factor, "weight_decay": decay, "rests": False})
    return optimizer_over([group for group in groups if group["params"]], training)


def training_masks(model: DenseModel, data: DenseData, plan: DensePlan) -> TrainingBatches:
    """The training pictures with their masks, changed together under randomness of their own."""
    training = plan.plan.training
    change = JointChange(model.staged.preprocess, plan.change, training.colour_jitter)
    images = data.split(training.train_split).with_transform(change)
    return TrainingBatches(
        cast(Any, images), training.batch_size, training.seed, training.workers, training.drop_last
    )


def check_pairs(plan: DensePlan, images: int) -> None:
    """Refuse batches of one picture where the decoder takes mean and variance over pooled maps."""
    training = plan.plan.training
    if plan.decoder == "linear":
        return
    smallest = (
        training.batch_size if training.drop_last else images % training.batch_size or training.batch_size
    )
    if smallest == 1:
        raise ValueError(
            f"decoder={plan.decoder} needs at least two pictures at a time, but {images:,} of them in "
            f"batches of {training.batch_size} leave a batch of one; choose another "
            "batch_size, or drop_last=true"
        )
