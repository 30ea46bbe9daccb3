"""What run.json says: everything needed to know what was run, on what, with what result."""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vitrim.compose import merge
from vitrim.data import DataSource
from vitrim.measuring.costs import Costs, costs, executed_macs
from vitrim.measuring.machine import machine, versions
from vitrim.methods.plugins import plugins_of
from vitrim.network.model import StagedViT
from vitrim.runs.kinds import AnyMetrics, Metrics
from vitrim.settings.deviations import protocol_record
from vitrim.settings.epoch_choice import MARKS
from vitrim.settings.run_plan import RunPlan
from vitrim.settings.task_kinds import kind_of
from vitrim.settings.training_choices import Select
from vitrim.training.prepared import Task

FEW = 20  # classes up to which the confusion matrix is part of the record


def start_record(
    plan: RunPlan,
    source: DataSource,
    task: Task,
    chosen: Mapping[str, str],
    start: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The record as it stands before the first step. `chosen`: why the settings that nobody asked for are as
    they are.
    """
    model, teacher = task.model, task.teacher
    return {
        "format": 1,
        "status": "running",
        "started": now(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "settings": plan.to_json(),
        "plugins": plugins_of(model.methods),
        "chosen": dict(chosen),
        "init": None if start is None else dict(start),
        "protocol": protocol_record(plan),
        "select": task.select,
        "data": {
            "spec": source.spec,
            "task": source.task,
            "classes": list(source.classes),
            "images": {name: len(split) for name, split in source.splits.items()},
            "notes": list(source.notes),
            **({} if source.clips is None else {"called": "clips"}),
        },
        "preprocess": model.preprocess.to_json(),
        "backbone": model.origin.to_json(),
        "teacher": None if teacher is None else teacher.to_json(),
        "costs": cost_record(model),
        **({} if start is None else {"chosen_methods": [repr(method) for method in model.methods]}),
        "versions": versions(),
        "machine": machine(),
    }


def check_same_data(record: Mapping[str, Any], source: DataSource, epochs: int) -> None:
    """Refuse to go on after `epochs` epochs with other classes than the run began with, or with more or fewer
    images to train or choose on. Test images may change: a broken one is only met at the end.
    """
    began, images = record["data"], {name: len(split) for name, split in source.splits.items()}
    advice = "put the data back as it was to resume, or start a new run in another folder"
    task = began.get("task", "classify")
    if source.task != task:
        raise ValueError(
            f"{source.spec} is now read as {source.task}, but this run began with {task}; {advice}"
        )
    if list(source.classes) != began["classes"]:
        odd = sorted(set(source.classes) ^ set(began["classes"])) or list(source.classes)
        raise ValueError(
            f"{source.spec} no longer has the classes this run began with ({odd[0]!r} differs); {advice}"
        )
    watched = [record["settings"]["training"]["train_split"], *(["val"] if epochs else [])]
    for name, count in began["images"].items():
        if name in watched and images.get(name) != count:
            now = f"{images[name]:,}" if name in images else "none"
            raise ValueError(
                f"{source.spec} had {count:,} {name} images when this run began, but has {now} now; {advice}"
            )


def cost_record(model: StagedViT) -> dict[str, Any]:
    """Parameters, multiply-adds and tokens of a model, beside those of its backbone alone."""
    merged = merge(model)
    found, plain = costs(model), costs(merged.plain())
    folds = any(method.folds for method in model.methods)
    macs, blocks = executed_macs(merged) if folds else (found.macs, found.blocks)
    total = sum(weight.numel() for weight in merged.parameters()) if folds else found.total
    return {
        "gmacs": found.gmacs,
        "gmacs_paper": found.gmacs_paper,
        "trained_parameters": found.trained,
        "trained_head": found.trained_head,
        **_of_clips(found),
        "total_parameters": found.total,
        "tokens": list(found.tokens),
        "blocks": list(found.blocks),
        **({"by_image": True} if found.by_image else {}),
        "folded": {"gmacs": macs / 1e9, "total_parameters": total, "blocks": list(blocks)},
        "plain": {
            "gmacs": plain.gmacs,
            "gmacs_paper": plain.gmacs_paper,
            "total_parameters": plain.total,
            "tokens": list(plain.tokens),
            "blocks": list(plain.blocks),
        },
    }


def _of_clips(found: Costs) -> dict[str, int]:
    """What a video model has besides: an image model's record stays as it was."""
    return {} if found.frames is None else {"trained_pooling": found.trained_pooling, "frames": found.frames}


def finish_record(
    record: Mapping[str, Any],
    results: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    model_file: Path,
) -> dict[str, Any]:
    """The record of a run that came to its end."""
    return {
        **record,
        "status": "finished",
        "finished": now(),
        "results": dict(results),
        "seconds_per_epoch": statistics.median(row["seconds"] for row in history),
        "bad_images": sorted({name for row in history for name in row.get("bad_images", ())}),
        "model_bytes": model_file.stat().st_size,
    }


def result_record(split: str, epoch: int, select: Select, metrics: AnyMetrics) -> dict[str, Any]:
    """The figures of the kept weights, with the split they were measured on, the epoch they come from and how
    that was chosen; `mark` goes beside the figures wherever they are shown.
    """
    return {
        "split": split,
        "epoch": epoch,
        "select": select,
        "mark": MARKS.get(select),
        **metrics.to_json(),
        **parts_record(metrics),
    }


def parts_record(metrics: AnyMetrics) -> dict[str, Any]:
    """The figures of every class, label or target, and for few classes which was taken for which."""
    kind = kind_of(metrics.to_json())
    found: dict[str, Any] = {} if kind is None else {kind.parts: list(metrics.parts)}
    if isinstance(metrics, Metrics) and len(metrics.confusion) <= FEW:
        found["confusion"] = [list(row) for row in metrics.confusion]
    return found


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
