"""Measure a model on the images of a split: the figures of its task, and the answer to every image."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vitrim.checks import check_one_of, check_positive
from vitrim.data import DataSource
from vitrim.data.transforms import eval_transform
from vitrim.measuring.devices import start_accelerator
from vitrim.network.model import StagedViT
from vitrim.runs import clip_figures
from vitrim.runs.batches import Batches, ordered_batches, readers_end_with_errors
from vitrim.runs.kinds import KINDS, AnyMetrics
from vitrim.runs.kinds import Metrics as Metrics
from vitrim.runs.kinds.kind import output_names
from vitrim.runs.measured_split import open_measured
from vitrim.runs.native import Packing, native_transform
from vitrim.runs.opening import open_model
from vitrim.settings.task_kinds import TASK_KINDS
from vitrim.settings.training_choices import CHOICES

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Answers:
    """What a model says to every image of a split, and how well it does."""

    task: str
    names: tuple[str, ...]
    """of the classes, labels or targets"""
    paths: tuple[str, ...]
    """of the images, in the order of the split; their numbers where they are no files"""
    answers: Tensor
    """[N, columns], as the kind of task keeps them"""
    targets: tuple[Any, ...]
    losses: Tensor
    """[N]"""
    metrics: AnyMetrics

    def rows(self) -> Iterator[dict[str, Any]]:
        """Path, truth, answer and loss of every image, as values of JSON."""
        kind = KINDS[self.task]
        columns = (self.paths, self.answers.tolist(), self.targets, self.losses.tolist())
        for path, answer, target, loss in zip(*columns, strict=True):
            yield {"path": path, **kind.row(self.names, answer, target), "loss": loss}

    def most_wrong(self, count: int) -> list[dict[str, Any]]:
        """The images with the highest losses, of those that are wrong where a task has right and wrong."""
        wrong = [row for row in self.rows() if not row.get("right", False)]
        return sorted(wrong, key=lambda row: (-row["loss"], row["path"]))[:count]


def evaluate(
    model: StagedViT | str | Path,
    data: DataSource | str | None = None,
    split: str | None = None,
    *,
    root: str | Path | None = None,
    download: bool = False,
    batch_size: int = 64,
    workers: int | None = None,
    precision: str = "no",
    cpu: bool = False,
    native: int | None = None,
) -> AnyMetrics:
    """Measure a model, a saved model file or a run folder on one split of `data` (a run's own data if not
    given): test if no split is named, or val where there is no test split, as training did. With `native`,
    every image at its own aspect ratio, of at most so many patches (NaFlexViT).
    """
    return answer(
        model, data, split, root=root, download=download, batch_size=batch_size, workers=workers,
        precision=precision, cpu=cpu, native=native,
    ).metrics  # fmt: skip


@readers_end_with_errors()
def answer(
    model: StagedViT | str | Path,
    data: DataSource | str | None = None,
    split: str | None = None,
    *,
    root: str | Path | None = None,
    download: bool = False,
    batch_size: int = 64,
    workers: int | None = None,
    precision: str = "no",
    cpu: bool = False,
    native: int | None = None,
) -> Answers:
    """The same with the answer to every image."""
    check_positive("evaluate", "batch_size", batch_size)
    check_one_of("evaluate", "precision", precision, CHOICES["precision"])
    staged = open_model(model) if isinstance(model, str | Path) else model
    source, split = open_measured(model, data, split, root, download, staged.task)
    check_same_classes(staged, source)
    images = source.split(split)
    accelerator = start_accelerator(precision, cpu=cpu)
    staged.to(accelerator.device)
    shared = math.ceil(batch_size / accelerator.num_processes) * accelerator.num_processes
    if native is None:
        loader = ordered_batches(images.with_transform(eval_transform(staged.preprocess)), shared, workers)
    else:
        tensors = images.with_transform(native_transform(staged, native))
        loader = ordered_batches(tensors, shared, workers, Packing(staged))
    batches = accelerator.prepare(loader)
    metrics, answers, losses = run_through(staged, batches, accelerator)
    names = output_names(staged)
    return Answers(staged.task, names, images.names, answers, images.labels, losses, metrics)


def measure(model: StagedViT, batches: Batches, accelerator: Accelerator) -> AnyMetrics:
    """Run all batches of a prepared loader, over all processes, and leave the model in the mode it was in."""
    return run_through(model, batches, accelerator)[0]


def run_through(
    model: StagedViT, batches: Batches, accelerator: Accelerator
) -> tuple[AnyMetrics, Tensor, Tensor]:
    """The figures, the answer to every image [N, columns] and its loss [N], in the order of the images."""
    if not len(batches):
        raise ValueError("there are no images to measure on")
    kind, clips, began = KINDS[model.task], clip_figures.clips_in(batches), time.perf_counter()
    found: list[tuple[Tensor, ...]] = []
    training = model.training
    model.eval()
    with torch.inference_mode(), clip_figures.counting(clips):
        for images, targets in batches:
            with accelerator.autocast():
                outputs, single = (
                    (model(images), None) if clips is None else clip_figures.over_views(model, images)
                )
            batch: tuple[Tensor, ...] = (
                kind.answers(model, outputs),
                targets,
                kind.losses(model, outputs, targets),
            )
            if single is not None:
                batch = (*batch, clip_figures.beside(outputs, single, targets))
            found.append(accelerator.gather_for_metrics(batch))
        answers, targets, losses, *more = (torch.cat(columns) for columns in zip(*found, strict=True))
        if clips is not None:
            unread = clip_figures.gather_unread(clips, accelerator)
            clip_figures.mark_unread(answers, losses, more[0], unread, model.num_classes)
        metrics: AnyMetrics = kind.figures(model, answers, targets, losses)
        if clips is not None and isinstance(metrics, Metrics):
            seconds = time.perf_counter() - began
            metrics = clip_figures.with_clip_figures(metrics, more[0].cpu(), clips, unread, seconds)
    model.train(training)
    return metrics, answers.cpu(), losses.cpu()


def check_same_classes(model: StagedViT, source: DataSource, called: str = "the model") -> None:
    """Refuse data whose labels mean something else than the model's outputs."""
    if model.task != source.task:
        raise ValueError(
            f"{called} was trained for the task {model.task}, but {source.spec} is read as {source.task}; "
            f"choose the data {called} was trained for"
        )
    what = TASK_KINDS[model.task].outputs
    if model.num_classes != len(source.classes):
        count = f"{model.num_classes} {what}"
        tells = f"predicts {count}" if model.task == "regress" else f"tells {count} apart"
        raise ValueError(
            f"{called} {tells}, but {source.spec} has "
            f"{len(source.classes)}; choose the data {called} was trained for"
        )
    if model.classes is not None and tuple(model.classes) != tuple(source.classes):
        pairs = zip(model.classes, source.classes, strict=True)
        ours, theirs = next((ours, theirs) for ours, theirs in pairs if ours != theirs)
        one = "class" if model.task == "classify" else what[:-1]
        raise ValueError(
            f"{called} knows the {one} {ours!r} where {source.spec} has {theirs!r}; "
            f"choose the data {called} was trained for"
        )
