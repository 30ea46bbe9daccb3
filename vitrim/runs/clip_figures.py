"""What is measured of clips besides: the first five classes, every view by itself, clips that cannot be read.

A clip that cannot be read counts as wrong, with the loss of a guess among all classes, and is named: leaving
it out or taking another would be another test set.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vitrim.data.clips.samples import EvaluatedClips
from vitrim.network.model import StagedViT
from vitrim.runs.batches import Batches
from vitrim.runs.kinds import Metrics

if TYPE_CHECKING:
    from accelerate import Accelerator

FIRST = 5
UNREAD = -1  # in place of the class given


def clips_in(batches: Batches) -> EvaluatedClips | None:
    """The clips a loader gives; None where it gives images."""
    return batches.dataset if isinstance(batches.dataset, EvaluatedClips) else None


@contextmanager
def counting(clips: EvaluatedClips | None) -> Iterator[None]:
    """Inside, clips that cannot be read are marked, and no error."""
    if clips is not None:
        clips.count_unread()
    try:
        yield
    finally:
        if clips is not None:
            clips.stop_counting()


def over_views(model: StagedViT, views: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [B, classes] averaged over views, and those of every view [B, V, classes], one after the other:
    no more clips pass the model at once than in training.
    """
    single = torch.stack([model(views[:, view]) for view in range(views.shape[1])], 1)
    return single.float().mean(1), single


def beside(outputs: Tensor, single: Tensor, targets: Tensor) -> Tensor:
    """How many classes come before the right one, and which views are right: [B, 1 + V]."""
    place = (outputs > outputs.gather(1, targets[:, None])).sum(1, keepdim=True)  # [B, 1]
    return torch.cat([place, single.argmax(2) == targets[:, None]], 1)


def gather_unread(clips: EvaluatedClips, accelerator: Accelerator) -> Tensor:
    """Which clips no process could read, [clips]."""
    assert clips.unread is not None
    marks = clips.unread.int().to(accelerator.device)
    return accelerator.reduce(marks, "sum").cpu() > 0  # type: ignore[no-any-return]


def mark_unread(answers: Tensor, losses: Tensor, places: Tensor, unread: Tensor, classes: int) -> None:
    """Clips that cannot be read: no class given, no view right, the loss of an even guess."""
    marked = unread.to(answers.device)
    if bool(unread.all()):
        raise ValueError(f"none of the {len(unread):,} clips can be read; vitrim data SPEC --check says why")
    answers[marked, 0], answers[marked, 1] = UNREAD, 0.0
    losses[marked] = math.log(classes)
    places[marked, 0], places[marked, 1:] = classes, 0


def with_clip_figures(
    metrics: Metrics, places: Tensor, clips: EvaluatedClips, unread: Tensor, seconds: float
) -> Metrics:
    """The figures of a split with those of clips."""
    right = places[:, 1:].double().mean(0).tolist()
    names = tuple(clips.split.names[index] for index in unread.nonzero().flatten().tolist())
    return replace(
        metrics,
        top5=(places[:, 0] < FIRST).double().mean().item() if len(metrics.parts) > FIRST else None,
        views=tuple(right),
        unreadable=names,
        per_second=len(clips) / seconds if seconds else None,
    )
