"""What is measured after every epoch of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vitrim.network.model import StagedViT
from vitrim.runs.batches import Batches
from vitrim.runs.evaluate import measure
from vitrim.training.checkpoint import Trained
from vitrim.training.frozen_features import FrozenFeatures
from vitrim.training.prepared import Task

if TYPE_CHECKING:
    from accelerate import Accelerator


def watched_batches(task: Task, frozen: FrozenFeatures | str, accelerator: Accelerator) -> dict[str, Batches]:
    """What is measured after every epoch: the validation images, or what a frozen backbone says of them, and
    the test images only if asked for.
    """
    if isinstance(frozen, FrozenFeatures):
        return dict(frozen.watched)
    watched = {} if task.validation is None else {"val": accelerator.prepare(task.validation)}
    return watched | ({"test": accelerator.prepare(task.test)} if task.select == "best-on-test" else {})


def measured(model: StagedViT, trained: Trained, watched: Mapping[str, Batches]) -> dict[str, float | None]:
    """The figures of the weights as they would be saved now."""
    row: dict[str, float | None] = {}
    with trained.mean.in_place():
        for split, batches in watched.items():
            found = measure(model, batches, trained.accelerator).to_json()
            row |= {f"{split}_{name}": value for name, value in found.items() if name != "images"}
    return row
