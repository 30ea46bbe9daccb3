"""A trained model at another budget, calibrated on images where each keeps its own number of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitrim.data import DataSource, open_data
from vitrim.data.source import Split
from vitrim.data.transforms import eval_transform
from vitrim.methods.budgets.calibrating import IMAGES
from vitrim.network.bucketed import varies
from vitrim.network.model import StagedViT
from vitrim.runs.batches import ordered_batches
from vitrim.runs.opening import data_of_run
from vitrim.training.fitting import fit, needs_fit

BATCH = 64


def set_budget(model: StagedViT, share: float, source: DataSource) -> None:
    """`model.set_budget`, and the levels of a budget per image found on training images."""
    model.set_budget(share)
    if needs_fit(model):
        fit(model, calibration_batches(model, source))


def set_budget_of_run(
    model: StagedViT,
    share: float,
    run: str | Path,
    data: str | None = None,
    root: str | Path | None = None,
    download: bool = False,
) -> None:
    """The same on the training images of the run, or of other data, which are opened where they are needed
    alone."""
    if not varies(model):
        model.set_budget(share)
        return
    spec, place = data_of_run(run, root) if data is None else (data, root)
    set_budget(model, share, open_data(spec, root=place, download=download))


def calibration_batches(model: StagedViT, source: DataSource) -> Iterator[tuple[Any, Any]]:
    """Training images from all over the split, as they are tested: what levels are found on."""
    every = source.split("train")
    stride = max(1, len(every) // IMAGES)
    few = Split(every.read, every.names[::stride][:IMAGES], every.labels[::stride][:IMAGES])
    return iter(ordered_batches(few.with_transform(eval_transform(model.preprocess)), BATCH, 0))
