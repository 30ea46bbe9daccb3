"""The pictures of the report, as PNG bytes. Drawn off screen, so nothing about the user's own matplotlib
changes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from vitrim.data import DataSource
from vitrim.data.transforms import eval_transform
from vitrim.network.model import StagedViT
from vitrim.report.kept import Seen, as_pictures, spread, what_is_seen
from vitrim.runs.kinds import KINDS
from vitrim.settings.task_kinds import kind_of

VALIDATION = {
    "classify": "right on the validation images, %",
    "multilabel": "mAP on the validation images, %",
    "regress": "R2 on the validation images",
}
TRUTH_AND_GUESS = ("truth", "prediction")
COLOURS = ("#1f6f8b", "#d1603d", "#5b8c3a", "#7a5195", "#8a6d3b", "#444444")


def curves(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Training loss and validation accuracy over the epochs, one line per run."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    shown: set[str] = set()
    for colour, (name, rows) in zip(COLOURS * len(histories), histories.items(), strict=False):
        epochs = [row["epoch"] for row in rows]
        loss.plot(epochs, [row.get("train_loss", math.nan) for row in rows], color=colour, label=name)
        kind = kind_of(rows[0], "val_") if rows else None
        if kind is not None:
            values = [row.get(f"val_{kind.figure}") for row in rows]
            values = [math.nan if value is None else value * (100 if kind.percent else 1) for value in values]
            accuracy.plot(epochs, values, color=colour, label=name)
            shown.add(VALIDATION[kind.name])
    measured = "; ".join(sorted(shown)) or VALIDATION["classify"]
    for axes, title in ((loss, "training loss"), (accuracy, measured)):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    loss.legend(frameon=False, fontsize=9)
    return to_png(figure)


def kept_patches(model: StagedViT, source: DataSource, count: int = 6) -> bytes | None:
    """A few test images and what is left of them after each reducing block; None where nothing is reduced."""
    split = source.split("test" if "test" in source.splits else "val")
    chosen = spread(split.labels, count)
    tensors = split.with_transform(eval_transform(model.preprocess))
    images = torch.stack([tensors[index][0] for index in chosen])  # [B, C, height, width]
    seen = what_is_seen(model.cpu(), images)
    if not seen:
        return None
    truths, guesses = _said(model, source, images, [split.labels[index] for index in chosen])
    original = as_pictures(model, images)
    patches = model.patch_count
    columns = [(f"{patches} patches", original)]
    columns += [(f"after block {step.block}: {step.tokens}", step.pictures) for step in _some(seen)]
    return to_png(_grid(columns, truths, guesses))


@torch.inference_mode()
def _said(
    model: StagedViT, source: DataSource, images: Tensor, targets: Sequence[Any]
) -> tuple[list[str], list[str]]:
    """Truths and guesses to stand above images."""
    kind = KINDS[model.task]
    answers = kind.answers(model, model(images)).tolist()
    rows = [kind.row(source.classes, answer, target) for answer, target in zip(answers, targets, strict=True)]
    if model.task == "regress":
        first = source.classes[0]
        truths, guesses = ([f"{row[f'{first} {what}']:.3g}" for row in rows] for what in TRUTH_AND_GUESS)
        return truths, guesses
    if model.task == "multilabel":
        truths, guesses = ([", ".join(row[what]) or "none" for row in rows] for what in TRUTH_AND_GUESS)
        return truths, guesses
    return [row["truth"] for row in rows], [row["prediction"] for row in rows]


def _some(seen: Sequence[Seen], most: int = 4) -> list[Seen]:
    """The last one, and others at even distances before it."""
    if len(seen) <= most:
        return list(seen)
    return [seen[round((index + 1) * len(seen) / most) - 1] for index in range(most)]


def _grid(columns: Sequence[tuple[str, Tensor]], truths: Sequence[str], guesses: Sequence[str]) -> Figure:
    """Images beside each other, one column of the grid per stage."""
    figure = Figure(figsize=(1.5 * len(truths), 1.62 * len(columns)), layout="constrained")
    axes = figure.subplots(len(columns), len(truths), squeeze=False)
    for row, (title, pictures) in enumerate(columns):
        for column, picture in enumerate(pictures):
            cell = axes[row][column]
            cell.imshow(picture.numpy(), interpolation="nearest")
            cell.set_xticks([])
            cell.set_yticks([])
            cell.spines[:].set_color("#cccccc")
            if column == 0:
                cell.set_ylabel(title, fontsize=8)
            if row == 0:
                right = truths[column] == guesses[column]
                said = truths[column] if right else f"{truths[column]}, model: {guesses[column]}"
                cell.set_title(said, fontsize=8, color="black" if right else "#b03020")
    return figure


def to_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, pil_kwargs={"optimize": True})
    return buffer.getvalue()
