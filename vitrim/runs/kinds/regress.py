"""Numbers to predict: squared error, mean absolute error, R2."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vitrim.network.model import StagedViT
from vitrim.network.target_scale import TargetScale
from vitrim.runs.kinds.kind import Answering, output_names, ratio


@dataclass(frozen=True)
class RegressMetrics:
    """Errors are in the units of the targets, averaged over them where there are several."""

    mae: float
    """mean absolute error"""
    r2: float | None
    """share of the variance that is explained, averaged over targets; None where the images all are alike"""
    loss: float
    """mean squared error of the targets scaled to deviation 1 over the training images"""
    images: int
    parts: tuple[dict[str, Any], ...] = field(default=(), compare=False, repr=False)
    """for each target: name, mean absolute error, R2"""

    def to_json(self) -> dict[str, float | None]:
        return {"mae": self.mae, "r2": self.r2, "loss": self.loss, "images": self.images}


class Regress:
    """An answer is the value of every target, in its own units."""

    def losses(self, model: StagedViT, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.float() - scale_of(model).outputs(targets)).square().mean(1)  # [B]

    def answers(self, model: Answering, outputs: Tensor) -> Tensor:
        return scale_of(model).values(outputs.float())  # [B, targets]

    def figures(self, model: StagedViT, answers: Tensor, targets: Tensor, losses: Tensor) -> RegressMetrics:
        parts = tuple(
            _part(name, answers[:, place].double(), targets[:, place].double())
            for place, name in enumerate(output_names(model))
        )
        explained = [part["r2"] for part in parts if part["r2"] is not None]
        return RegressMetrics(
            mae=sum(part["mae"] for part in parts) / len(parts),
            r2=ratio(sum(explained), len(explained)),
            loss=losses.double().mean().item(),
            images=len(targets),
            parts=parts,
        )

    def shown(self, names: tuple[str, ...], answer: list[float], top: int) -> list[tuple[str, float]]:
        return list(zip(names, answer, strict=True))

    def row(self, names: tuple[str, ...], answer: list[float], target: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value, truth in zip(names, answer, target, strict=True):
            found |= {f"{name} truth": truth, f"{name} prediction": value}
        return found


def scale_of(model: Answering) -> TargetScale:
    """What the outputs of a model stand for."""
    if model.scale is None:
        raise ValueError("this model does not know the scale of its targets; vitrim.train sets it")
    return model.scale


def _part(name: str, answers: Tensor, targets: Tensor) -> dict[str, Any]:
    from sklearn.metrics import r2_score

    varied = len(targets) > 1 and bool((targets != targets[0]).any())
    return {
        "name": name,
        "mae": (answers - targets).abs().mean().item(),
        "r2": float(r2_score(targets.numpy(), answers.numpy())) if varied else None,
    }
