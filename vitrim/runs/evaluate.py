"""Measure a model on the images of a split: accuracy, accuracy averaged over classes, loss."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from vitrim.checks import check_one_of, check_positive
from vitrim.data import DataSource, open_data
from vitrim.data.transforms import eval_transform
from vitrim.measuring.devices import start_accelerator
from vitrim.network.stage import StagedViT
from vitrim.runs.batches import Batches, ordered_batches
from vitrim.runs.opening import data_of_run, open_model
from vitrim.settings.training_choices import CHOICES

if TYPE_CHECKING:
    from accelerate import Accelerator


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
    right: tuple[bool, ...] = field(default=(), compare=False, repr=False)
    """whether each image was classified correctly, in order"""

    def to_json(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if name != "right"}


def evaluate(
    model: StagedViT | str | Path,
    data: DataSource | str | None = None,
    split: str = "test",
    *,
    root: str | Path | None = None,
    download: bool = False,
    batch_size: int = 64,
    workers: int | None = None,
    precision: str = "no",
    cpu: bool = False,
) -> Metrics:
    """Measure a model, a saved model file or a run folder on one split of `data` (a run's own data if not
    given).
    """
    check_positive("evaluate", "batch_size", batch_size)
    check_one_of("evaluate", "precision", precision, CHOICES["precision"])
    if data is None:
        if isinstance(model, StagedViT):
            raise ValueError("a model in memory has no data of its own; give data, for example data='digits'")
        data, root = data_of_run(model, root)
    source = data if isinstance(data, DataSource) else open_data(data, root=root, download=download)
    staged = model if isinstance(model, StagedViT) else open_model(model)
    check_same_classes(staged, source)
    images = source.split(split).with_transform(eval_transform(staged.preprocess))
    accelerator = start_accelerator(precision, cpu=cpu)
    staged.to(accelerator.device)
    shared = math.ceil(batch_size / accelerator.num_processes) * accelerator.num_processes
    batches = accelerator.prepare(ordered_batches(images, shared, workers))
    return measure(staged, batches, accelerator)


def measure(model: StagedViT, batches: Batches, accelerator: Accelerator) -> Metrics:
    """Run all batches of a prepared loader, over all processes, and leave the model in the mode it was in."""
    from torchmetrics.classification import MulticlassConfusionMatrix

    if not len(batches):
        raise ValueError("there are no images to measure on")
    confusion = MulticlassConfusionMatrix(model.num_classes, sync_on_compute=False).to(accelerator.device)
    losses, right = [], []
    training = model.training
    model.eval()
    with torch.inference_mode():
        for images, labels in batches:
            with accelerator.autocast():
                logits = model(images)
            loss = F.cross_entropy(logits.float(), labels, reduction="none")  # [B]
            loss, guesses, labels = accelerator.gather_for_metrics((loss, logits.argmax(1), labels))
            confusion.update(guesses, labels)
            losses.append(loss)
            right.append(guesses == labels)
    model.train(training)
    found = _from_confusion(confusion.compute(), torch.cat(losses))
    return replace(found, right=tuple(torch.cat(right).tolist()))


def _from_confusion(confusion: torch.Tensor, losses: torch.Tensor) -> Metrics:
    right, total = confusion.diagonal(), confusion.sum(1)  # [C], rows are the true classes
    present = total > 0
    return Metrics(
        top1=int(right.sum()) / int(total.sum()),
        mean_per_class=(right[present].double() / total[present]).mean().item(),
        loss=losses.double().mean().item(),
        images=int(total.sum()),
    )


def check_same_classes(model: StagedViT, source: DataSource, called: str = "the model") -> None:
    """Refuse data whose labels mean something else than the model's outputs."""
    if model.num_classes != len(source.classes):
        raise ValueError(
            f"{called} tells {model.num_classes} classes apart, but {source.spec} has "
            f"{len(source.classes)}; choose the data {called} was trained for"
        )
    if model.classes is not None and tuple(model.classes) != tuple(source.classes):
        pairs = zip(model.classes, source.classes, strict=True)
        ours, theirs = next((ours, theirs) for ours, theirs in pairs if ours != theirs)
        raise ValueError(
            f"{called} knows the class {ours!r} where {source.spec} has {theirs!r}; "
            f"choose the data {called} was trained for"
        )
