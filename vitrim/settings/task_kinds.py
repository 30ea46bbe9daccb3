"""What the kinds of task are called, which figure each is known by, and how figures are put into words.

How outputs are compared with targets is in `vitrim.runs.kinds`, what training minimises in
`vitrim.training.objectives`, how targets are read in `vitrim.data.targets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TaskKind:
    """One kind of task.

    Attributes:
        outputs: what the outputs of the head stand for.
        figure: the main figure, by its name in run.json and history.jsonl.
        heading: what that figure is called.
        percent: whether it is a share.
        parts: the name of the figures of single outputs in run.json.
    """

    name: str
    outputs: str
    figure: str
    heading: str
    percent: bool
    parts: str


TASK_KINDS = {
    kind.name: kind
    for kind in (
        TaskKind("classify", "classes", "top1", "accuracy", True, "per_class"),
        TaskKind("multilabel", "labels", "map", "mAP", True, "per_label"),
        TaskKind("regress", "targets", "r2", "R2", False, "per_target"),
        TaskKind("segment", "classes", "miou", "mIoU", True, "per_region"),
    )
}


def kind_of(row: Mapping[str, Any], before: str = "") -> TaskKind | None:
    """The kind of task whose figures a row holds, under names that begin with `before`."""
    return next((kind for kind in TASK_KINDS.values() if before + kind.figure in row), None)


def score_of(row: Mapping[str, Any], split: str) -> tuple[float, float] | None:
    """What decides between epochs, higher is better: accuracy or mAP, then the loss; of numbers to predict
    the loss alone, in which every target weighs the same. None where the split was not measured.
    """
    kind = kind_of(row, f"{split}_")
    if kind is None:
        return None
    loss = row[f"{split}_loss"]
    if kind.name == "regress":
        return -loss, 0.0
    figure = row[f"{split}_{kind.figure}"]
    return (-1.0 if figure is None else figure), -loss


def main_figure(results: Mapping[str, Any], digits: int = 2, before: str = "") -> str:
    """The main figure in words, such as 85.25 %, mAP 71.30 % or R2 0.8431."""
    kind = kind_of(results, before)
    if kind is None:
        return "not measured"
    value = results[before + kind.figure]
    name = "" if kind.name == "classify" else f"{kind.heading} "
    if value is None:
        return f"{name}not defined"
    return f"{name}{100 * value:.{digits}f} %" if kind.percent else f"{name}{value:.{digits + 2}f}"


def result_words(results: Mapping[str, Any]) -> str:
    """The figures of a split in one line, without its name and size."""
    kind = kind_of(results)
    if kind is not None and kind.name == "multilabel":
        return f"{main_figure(results)} averaged over labels, F1 {share(results['f1'])}"
    if kind is not None and kind.name == "regress":
        return f"{main_figure(results)}, mean absolute error {results['mae']:.4g}"
    if kind is not None and kind.name == "segment":
        return (
            f"{main_figure(results)}, mean accuracy {share(results['macc'])}, pixels right "
            f"{share(results['aacc'])}, boundary IoU {share(results['boundary_iou'])}"
        )
    five = f"{share(results['top5'])} among the first five, " if results.get("top5") is not None else ""
    return f"{share(results['top1'])} right, {five}{share(results['mean_per_class'])} averaged over classes"


def share(value: float | None) -> str:
    return "not defined" if value is None else f"{100 * value:.2f} %"


HEADINGS = {"average_precision": "average precision", "f1": "F1", "mae": "mean absolute error", "r2": "R2"}
SHARES = ("accuracy", "precision", "recall", "f1", "average_precision")


def part_heading(name: str) -> str:
    """What a figure of a single class, label or target is called."""
    return HEADINGS.get(name, name)


def part_cell(name: str, value: Any) -> str:
    """Such a figure in words."""
    if value is None:
        return "-"
    if name in SHARES:
        return share(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def worst_first(parts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Classes, labels or targets by F1 or R2, the lowest first, those without any last."""

    def figure(part: Mapping[str, Any]) -> float | None:
        found: float | None = part["f1"] if "f1" in part else part["r2"]
        return found

    return sorted(parts, key=lambda part: (figure(part) is None, figure(part) or 0.0))
