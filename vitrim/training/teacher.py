"""A trained model that another one learns from: its class probabilities and, where masks are learned, its
patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrim.backbones.geometry import grid_size
from vitrim.data import DataSource
from vitrim.methods.reducers.dynamicvit import class_divergence, distillation_loss
from vitrim.network.model import StagedViT
from vitrim.network.parts import Selector
from vitrim.network.placing import placed
from vitrim.runs.evaluate import check_same_classes
from vitrim.runs.opening import open_model
from vitrim.settings.training import Training
from vitrim.tokens.state import TokenState


@dataclass(frozen=True)
class Teacher:
    """A frozen model in evaluation mode. No module, so that it is neither trained nor saved with its
    student.
    """

    path: str
    model: StagedViT
    weight: float
    patches: bool
    """whether the patches a student still keeps are compared as well, not the class probabilities alone"""

    def loss(self, student: StagedViT, images: Tensor, logits: Tensor, state: TokenState | None) -> Tensor:
        """What the teacher adds to the loss of a student's `logits`, and of its last `state` in training."""
        with torch.no_grad():
            answers, its = self.model.run(images) if self.patches else (self.model(images), None)
        if state is None or its is None or state.keep is None:
            return self.weight * class_divergence(logits.float(), answers.float())
        parts = distillation_loss(
            logits.float(), _patches(student, state), state.keep, answers.float(), _patches(self.model, its)
        )
        return self.weight * (parts.logits + parts.tokens)

    def to_json(self) -> dict[str, Any]:
        """What run.json says about it."""
        return {"path": self.path, "compared": ["classes", "patches"] if self.patches else ["classes"]}


def _patches(model: StagedViT, state: TokenState) -> Tensor:
    return model.vit.norm(state.tokens)[:, state.prefix :].float()  # [B, N, D]


def open_teacher(training: Training) -> Teacher | None:
    """The teacher that training settings name; None where they name none."""
    if training.teacher is None:
        if training.distil != Training.distil:
            raise ValueError(
                f"distil={training.distil:g} weighs what a teacher adds to the loss, but there is none; "
                "give teacher=RUN as well, or leave distil out"
            )
        return None
    if not Path(training.teacher).exists():
        raise FileNotFoundError(
            f"there is no teacher {training.teacher!r}; give the folder of a finished run or a saved model"
        )
    model = open_model(training.teacher).requires_grad_(False)
    return Teacher(training.teacher, model, training.distil, patches=False)


def introduce(teacher: Teacher, student: StagedViT, source: DataSource) -> Teacher:
    """The same teacher, prepared for this student; refused where it sees other classes or other images."""
    check_same_classes(teacher.model, source, called=f"the teacher {teacher.path!r}")
    ours, its = student.preprocess, teacher.model.preprocess
    for what, mine, theirs in (
        ("images of (height, width)", ours.image_size, its.image_size),
        ("this many colour channels:", ours.channels, its.channels),
        ("arrays whose value for 1 is", ours.scale, its.scale),
        ("pixels of mean", ours.mean, its.mean),
        ("pixels of standard deviation", ours.std, its.std),
    ):
        if mine != theirs:
            raise ValueError(
                f"the teacher {teacher.path!r} reads {what} {theirs}, but the model to train {mine}, and "
                "both see the same batch; choose a teacher that was trained on such images"
            )
    return Teacher(teacher.path, teacher.model, teacher.weight, patches_compare(student, teacher.model))


def patches_compare(student: StagedViT, teacher: StagedViT) -> bool:
    """Whether patch i of both is the same patch in training: the student only masks patches, the teacher has
    all of them on the same grid, and their tokens are equally wide.
    """
    parts = [part for _, part in placed(student)]
    masks = bool(parts) and all(isinstance(part, Selector) for part in parts)
    grids = grid_size(student.vit), grid_size(teacher.vit)
    whole = not list(placed(teacher)) and grids[0] == grids[1]
    return masks and whole and student.width == teacher.width
