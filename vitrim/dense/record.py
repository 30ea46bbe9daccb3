"""What run.json says of a segmentation run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrim.compose import compose, merge
from vitrim.dense.costing import dense_costs
from vitrim.dense.evaluating import unreduced
from vitrim.dense.metrics import SegmentationMetrics
from vitrim.dense.model import DenseModel
from vitrim.dense.plan import DensePlan
from vitrim.dense.source import DenseData
from vitrim.files.saving import SEGMENT
from vitrim.measuring.costs import costs
from vitrim.measuring.machine import machine, versions
from vitrim.methods.plugins import plugins_of
from vitrim.settings.epoch_choice import MARKS
from vitrim.training.record import now


def start_dense_record(
    plan: DensePlan, data: DenseData, model: DenseModel, select: str, chosen: Mapping[str, str]
) -> dict[str, Any]:
    """The record as it stands before the first step."""
    return {
        "format": 1,
        "status": "running",
        "started": now(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "settings": plan.to_json(),
        "plugins": plugins_of(model.methods),
        "chosen": dict(chosen),
        "init": None,
        "protocol": None,
        "select": select,
        "data": {
            "spec": data.spec,
            "task": SEGMENT,
            "classes": list(data.table.names),
            "images": {name: len(split) for name, split in data.splits.items()},
            "notes": list(data.notes),
        },
        "preprocess": model.staged.preprocess.to_json(),
        "backbone": model.staged.origin.to_json(),
        "costs": dense_cost_record(model),
        "versions": versions(),
        "machine": machine(),
    }


def dense_cost_record(model: DenseModel) -> dict[str, Any]:
    """Costs of one window with the head, beside those without reduction."""
    found, plain = dense_costs(model), dense_costs(unreduced(model))
    staged, bare = costs(model.staged), costs(compose(merge(model.staged).vit))
    return {
        "gmacs": found.gmacs,
        "gmacs_paper": staged.gmacs_paper,
        "trained_parameters": found.trained,
        "trained_head": sum(weight.numel() for weight in model.head.parameters()),
        "total_parameters": found.total,
        "tokens": list(staged.tokens),
        "blocks": list(staged.blocks),
        "plain": {
            "gmacs": plain.gmacs,
            "gmacs_paper": bare.gmacs_paper,
            "total_parameters": plain.total,
            "tokens": list(bare.tokens),
            "blocks": list(bare.blocks),
        },
    }


def check_same_dense_data(record: Mapping[str, Any], data: DenseData) -> None:
    """Refuse to go on with other classes or other numbers of pictures than the run began with."""
    began = record["data"]
    advice = "put the data back as it was to resume, or start a new run in another folder"
    if list(data.table.names) != began["classes"]:
        raise ValueError(f"{data.spec} no longer has the classes this run began with; {advice}")
    for name, count in began["images"].items():
        now_there = len(data.splits[name]) if name in data.splits else 0
        if name in ("train", "val", "trainval") and now_there != count:
            raise ValueError(
                f"{data.spec} had {count:,} {name} pictures when this run began, but has {now_there:,} now; "
                f"{advice}"
            )


def dense_results(
    split: str, epoch: int, select: str, found: SegmentationMetrics, whole: SegmentationMetrics | None
) -> dict[str, Any]:
    """The figures of the kept weights, and how they compare with the same weights without reduction."""
    told: dict[str, Any] = {
        "split": split, "epoch": epoch, "select": select, "mark": MARKS.get(select), **found.to_json(),
        "per_region": list(found.parts),
    }  # fmt: skip
    if whole is not None:
        told |= {"miou_unreduced": whole.miou, "relative_miou": found.relative_to(whole)}
    return told
