"""What every kind of task can do."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from vitrim.network.model import StagedViT
from vitrim.network.target_scale import TargetScale


class Answering(Protocol):
    """What must be known of a model to read its outputs: a `StagedViT`, or what is kept of one."""

    @property
    def classes(self) -> tuple[str, ...] | None: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def task(self) -> str: ...

    @property
    def scale(self) -> TargetScale | None: ...


class Kind(Protocol):
    """Losses and answers of a batch, figures of a split, and how one answer is shown."""

    def losses(self, model: StagedViT, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of every image [B], without anything that training adds."""

    def answers(self, model: Answering, outputs: Tensor) -> Tensor:
        """What is kept of the outputs of every image [B, columns]."""

    def figures(self, model: StagedViT, answers: Tensor, targets: Tensor, losses: Tensor) -> Any:
        """The figures of all images of a split: a dataclass with `to_json`."""

    def shown(self, names: tuple[str, ...], answer: list[float], top: int) -> list[tuple[str, float]]:
        """What is said of one image: names of outputs, and a probability or value for each."""

    def row(self, names: tuple[str, ...], answer: list[float], target: Any) -> dict[str, Any]:
        """One image's answer beside the truth, by column name."""


def output_names(model: Answering) -> tuple[str, ...]:
    """The names of a model's outputs; their numbers where they have none."""
    return model.classes or tuple(str(index) for index in range(model.num_classes))


def ratio(part: float, whole: float) -> float | None:
    """None where there is nothing to take a share of."""
    return part / whole if whole else None
