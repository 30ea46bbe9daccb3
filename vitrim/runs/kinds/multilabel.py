"""Several labels a picture: binary cross-entropy, mean average precision, F1 at a probability of a half."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from vitrim.network.model import StagedViT
from vitrim.runs.kinds.kind import Answering, output_names, ratio

GIVEN = 0.5  # probability from which a label counts as given


@dataclass(frozen=True)
class MultilabelMetrics:
    """Shares are between 0 and 1; None where a share of nothing would be taken."""

    map: float | None
    """mean of the average precisions of the labels that occur"""
    f1: float | None
    """of all labels of all images together"""
    f1_macro: float | None
    """the mean of every occurring label's own"""
    loss: float
    """binary cross-entropy, mean over images and labels"""
    images: int
    parts: tuple[dict[str, Any], ...] = field(default=(), compare=False, repr=False)
    """for each label: name, images that have it, average precision, recall, precision, F1"""

    def to_json(self) -> dict[str, float | None]:
        return {
            "map": self.map,
            "f1": self.f1,
            "f1_macro": self.f1_macro,
            "loss": self.loss,
            "images": self.images,
        }


class Multilabel:
    """An answer is the probability of every label."""

    def losses(self, model: StagedViT, outputs: Tensor, targets: Tensor) -> Tensor:
        every = F.binary_cross_entropy_with_logits(outputs.float(), targets, reduction="none")
        return every.mean(1)  # [B]

    def answers(self, model: Answering, outputs: Tensor) -> Tensor:
        return outputs.float().sigmoid()  # [B, labels]

    def figures(
        self, model: StagedViT, answers: Tensor, targets: Tensor, losses: Tensor
    ) -> MultilabelMetrics:
        counts = [_counts(answers[:, place], targets[:, place]) for place in range(targets.shape[1])]
        parts = tuple(
            _part(name, answers[:, place], targets[:, place], counts[place])
            for place, name in enumerate(output_names(model))
        )
        found, false, missed = (sum(column) for column in zip(*counts, strict=True))
        occurring = [part for part in parts if part["images"]]
        return MultilabelMetrics(
            map=ratio(sum(part["average_precision"] for part in occurring), len(occurring)),
            f1=ratio(2 * found, 2 * found + false + missed),
            f1_macro=ratio(sum(part["f1"] for part in occurring), len(occurring)),
            loss=losses.double().mean().item(),
            images=len(targets),
            parts=parts,
        )

    def shown(self, names: tuple[str, ...], answer: list[float], top: int) -> list[tuple[str, float]]:
        best = sorted(zip(names, answer, strict=True), key=lambda pair: -pair[1])
        given = sum(value >= GIVEN for value in answer)
        return best[: max(top, given)]

    def row(self, names: tuple[str, ...], answer: list[float], target: Any) -> dict[str, Any]:
        given = [name for name, value in zip(names, answer, strict=True) if value >= GIVEN]
        truth = [name for name, value in zip(names, target, strict=True) if value]
        values = dict(zip(names, answer, strict=True))
        return {"truth": truth, "prediction": given, "confidences": values, "right": given == truth}


def _counts(answers: Tensor, targets: Tensor) -> tuple[int, int, int]:
    """Of one label: rightly given, wrongly given, missed."""
    given, true = answers >= GIVEN, targets.bool()
    return tuple(int(which.sum()) for which in (given & true, given & ~true, ~given & true))  # type: ignore[return-value]


def _part(name: str, answers: Tensor, targets: Tensor, counts: tuple[int, int, int]) -> dict[str, Any]:
    from sklearn.metrics import average_precision_score

    found, false, missed = counts
    occurs = found + missed > 0
    average = float(average_precision_score(targets.numpy(), answers.numpy())) if occurs else None
    return {
        "name": name,
        "images": found + missed,
        "average_precision": average,
        "recall": ratio(found, found + missed),
        "precision": ratio(found, found + false),
        "f1": ratio(2 * found, 2 * found + false + missed),
    }
