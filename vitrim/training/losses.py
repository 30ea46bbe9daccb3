"""What training minimises: the objective of the task, what methods add to it, and what a teacher adds."""

from __future__ import annotations

from torch import Tensor, nn

from vitrim.methods.tuners.dyt import DyT, complete_model_loss
from vitrim.network.model import StagedViT
from vitrim.settings.training import Training
from vitrim.tokens.state import TokenState
from vitrim.training.objectives import Objective
from vitrim.training.teacher import Teacher


class WithLoss(nn.Module):
    """Images and labels (or the shares of mixed ones) in, the loss out: one module, so data parallelism sees
    the whole forward pass.
    """

    def __init__(
        self,
        model: StagedViT,
        training: Training,
        teacher: Teacher | None = None,
        weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = Objective(model, training, weights)
        self.label_smoothing = self.objective.label_smoothing
        self.teacher = teacher if teacher is not None and teacher.weight > 0 else None
        self.complete = next((method.complete for method in model.methods if isinstance(method, DyT)), 0.0)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        logits, penalty, state = self._student(images)
        loss: Tensor = self.objective(logits, labels)
        if penalty is not None:
            loss = loss + penalty
        if self.complete > 0:
            added = complete_model_loss(self.model, images, labels, logits, self.label_smoothing)
            loss = loss + self.complete * added
        if self.teacher is not None:
            loss = loss + self.teacher.loss(self.model, images, logits, state)
        return loss

    def _student(self, images: Tensor) -> tuple[Tensor, Tensor | None, TokenState | None]:
        """Logits [B, classes], penalty, and the last state where its patches are compared."""
        if self.teacher is None or not self.teacher.patches:
            return *self.model.forward_with_penalty(images), None
        logits, state = self.model.run(images)
        return logits, state.penalty, state
