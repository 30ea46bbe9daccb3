"""One class a picture: cross-entropy, accuracy, and every class's share found, precision and F1."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.network.model import StagedViT
from vitrim.runs.kinds.kind import Answering, output_names, ratio


@dataclass(frozen=True)
class Metrics:
    """Shares are between 0 and 1."""

    top1: float
    """share of the images classified correctly"""
    mean_per_class: float
    """the same for each class that occurs, then averaged: rare classes count as much as common ones"""
    loss: float
    """mean cross-entropy, without label smoothing"""
    images: int
    parts: tuple[dict[str, Any], ...] = field(default=(), compare=False, repr=False)
    """for each class: name, images, accuracy (the share of its images found: recall), precision, F1"""
    confusion: tuple[tuple[int, ...], ...] = field(default=(), compare=False, repr=False)
    """images by true class (rows) and by the class given (columns)"""
    right: tuple[bool, ...] = field(default=(), compare=False, repr=False)
    """whether each image was classified correctly, in order"""
    top5: float | None = None
    """of clips of more than five classes, the share whose class is among the five most probable ones"""
    views: tuple[float, ...] = ()
    """of clips, the share of each view by itself classified correctly"""
    unreadable: tuple[str, ...] = ()
    """clips that could not be read, which count as wrong"""
    per_second: float | None = field(default=None, compare=False)
    """clips read and classified a second, of all views"""

    def to_json(self) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "top1": self.top1,
            "mean_per_class": self.mean_per_class,
            "loss": self.loss,
            "images": self.images,
        }
        if self.views:
            figures |= {"top5": self.top5, "views": list(self.views)}
        return figures | ({"unreadable": list(self.unreadable)} if self.unreadable else {})


class Classify:
    """An answer is the class given and its probability."""

    def losses(self, model: StagedViT, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.float(), targets, reduction="none")  # [B]

    def answers(self, model: Answering, outputs: Tensor) -> Tensor:
        guesses = outputs.argmax(1)  # [B]
        sure = outputs.float().softmax(1).gather(1, guesses[:, None])  # [B, 1]
        return torch.cat([guesses[:, None].float(), sure], 1)  # [B, 2]

    def figures(self, model: StagedViT, answers: Tensor, targets: Tensor, losses: Tensor) -> Metrics:
        given = answers[:, 0].long()
        read = given >= 0  # clips that cannot be read are given no class, and count as wrong
        confusion = _confusion(targets[read], given[read], model.num_classes)
        right = confusion.diagonal()  # [C]
        total = targets.bincount(minlength=model.num_classes)  # [C]
        present = total > 0
        return Metrics(
            top1=int(right.sum()) / int(total.sum()),
            mean_per_class=(right[present].double() / total[present]).mean().item(),
            loss=losses.double().mean().item(),
            images=int(total.sum()),
            parts=_parts(output_names(model), confusion, total),
            confusion=tuple(map(tuple, confusion.tolist())),
            right=tuple((answers[:, 0].long() == targets).tolist()),
        )

    def shown(self, names: tuple[str, ...], answer: list[float], top: int) -> list[tuple[str, float]]:
        return [(names[int(answer[0])], answer[1])]

    def row(self, names: tuple[str, ...], answer: list[float], target: Any) -> dict[str, Any]:
        given = names[int(answer[0])] if answer[0] >= 0 else "(cannot be read)"
        truth = names[int(target)]
        return {"truth": truth, "prediction": given, "confidence": answer[1], "right": given == truth}


def _confusion(targets: Tensor, given: Tensor, classes: int) -> Tensor:
    """How often each class was given for each true one. Counted here, because a library of
    metrics takes two seconds to import, before every run and every evaluation."""
    cells = targets * classes + given  # [B]
    return cells.bincount(minlength=classes**2).view(classes, classes)  # [C, C], rows are the true classes


def _parts(names: tuple[str, ...], confusion: Tensor, total: Tensor) -> tuple[dict[str, Any], ...]:
    columns = confusion.diagonal().tolist(), total.tolist(), confusion.sum(0).tolist()
    return tuple(
        {
            "name": name,
            "images": images,
            "accuracy": ratio(right, images),
            "precision": ratio(right, given),
            "f1": ratio(2 * right, images + given),
        }
        for name, right, images, given in zip(names, *columns, strict=True)
    )
