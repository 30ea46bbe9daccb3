"""What training minimises for each kind of task, and what class imbalance changes of it.

Every weight is a constant factor of an image's loss, with mean 1 over the training images; nothing is divided
by what happens to be in a batch. So two processes, and accumulated batches, minimise what one large batch
does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.data import Split
from vitrim.network.model import StagedViT
from vitrim.runs.kinds.regress import scale_of
from vitrim.settings.training import Training
from vitrim.training.mixup import mixes


class Objective(nn.Module):
    """Outputs and targets in, the mean loss of the batch out."""

    weights: Tensor | None

    def __init__(self, model: StagedViT, training: Training, weights: Tensor | None = None) -> None:
        super().__init__()
        self.task, self.scale = model.task, scale_of(model) if model.task == "regress" else None
        self.label_smoothing = 0.0 if mixes(training) else training.label_smoothing  # or smoothed twice
        self.huber = training.regression_loss == "huber"
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = outputs.float()
        if self.task == "multilabel":
            return F.binary_cross_entropy_with_logits(outputs, targets, pos_weight=self.weights)
        if self.scale is not None:
            wanted = self.scale.outputs(targets)
            return F.huber_loss(outputs, wanted) if self.huber else F.mse_loss(outputs, wanted)
        if self.weights is None:
            return F.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)
        if targets.ndim == 2:  # shares of mixed images, which bring their own smoothing
            return F.cross_entropy(outputs, targets, weight=self.weights, reduction="none").mean()
        # torch would weigh the smoothing by every class's weight, and an image by more than its own class
        losses = F.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing, reduction="none")
        return (self.weights[targets] * losses).mean()


def balancing_weights(task: str, split: Split, count: int) -> Tensor:
    """Weights of the classes, so that each weighs the same in all; of labels, how many images lack one for
    each that has it. Classes and labels without an image have nothing to weigh and get 1.
    """
    labels = torch.tensor(split.labels)
    if task == "multilabel":
        have = labels.sum(0).double()  # [labels]
        found = (len(labels) - have) / have.clamp(min=1)
        return torch.where((have > 0) & (found > 0), found, 1.0).float()
    have = torch.bincount(labels, minlength=count).double()  # [classes]
    found = len(labels) / (have.clamp(min=1) * (have > 0).sum())
    return torch.where(have > 0, found, 1.0).float()
