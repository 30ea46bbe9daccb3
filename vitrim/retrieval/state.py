"""A retrieval run between two epochs: its record, its optimiser, its checkpoint."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitrim.measuring.costs import costs
from vitrim.measuring.machine import machine, versions
from vitrim.retrieval.asked import KIND as TASK
from vitrim.retrieval.caption_data import CaptionSource
from vitrim.retrieval.model import RetrievalModel
from vitrim.retrieval.plan import RetrievalPlan
from vitrim.runs.folder import RunFolder
from vitrim.settings.epoch_choice import Picked
from vitrim.settings.training import Training
from vitrim.training.record import now


def start_record(plan: RetrievalPlan, source: CaptionSource, model: RetrievalModel) -> dict[str, Any]:
    """run.json before the first step; the plan stands under "retrieval"."""
    found = costs(model.vision)
    return {
        "format": 1,
        "status": "running",
        "started": now(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        TASK: plan.to_json(),
        "data": {
            "spec": source.spec,
            "task": TASK,
            "images": {name: len(split.images) for name, split in source.splits.items()},
            "captions": {name: len(split.captions) for name, split in source.splits.items()},
            "notes": list(source.notes),
        },
        "preprocess": model.vision.preprocess.to_json(),
        "backbone": model.vision.origin.to_json(),
        "costs": {
            "gmacs": found.gmacs,
            "gmacs_paper": found.gmacs_paper,
            "tokens": list(found.tokens),
            "trained_parameters": sum(each.numel() for each in model.trained().values()),
            "total_parameters": sum(each.numel() for each in model.towers.parameters()),
            "trained_by_tower": model.trained_by_tower(),
        },
        "versions": versions(),
        "machine": machine(),
    }


def check_same(record: Mapping[str, Any], source: CaptionSource) -> None:
    """Refuse to go on with other captions to train on than the run began with."""
    began = record["data"].get("captions", {}).get("train")
    if began != len(source.split("train").captions):
        raise ValueError(
            f"{source.spec} had {began} captions to train on when this run began, but has "
            f"{len(source.split('train').captions)} now; put the data back as it was"
        )


def make_optimizer(model: RetrievalModel, training: Training) -> torch.optim.Optimizer:
    """torch's optimiser over what trains; vectors and single numbers do not decay with
    decayed="matrices"."""
    kept: dict[float, list[nn.Parameter]] = {}
    for parameter in model.trained().values():
        plain = training.decayed == "matrices" and parameter.ndim <= 1
        kept.setdefault(0.0 if plain else training.weight_decay, []).append(parameter)
    groups = [
        {"params": members, "scale": 1.0, "weight_decay": decay, "rests": False}
        for decay, members in kept.items()
    ]
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=training.peak, momentum=training.momentum)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[training.optimizer]
    return kind(groups, lr=training.peak)


def snapshot(model: RetrievalModel, optimizer: Any, picked: Picked) -> dict[str, Any]:
    scaler = getattr(optimizer, "scaler", None)
    return {
        "format": 1,
        "epoch": picked.last,
        "picked": picked.to_json(),
        "methods": [repr(method) for method in model.vision.methods],
        "weights": {name: value.cpu() for name, value in model.state().items()},
        "mean": None,
        "optimizer": optimizer.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
    }


def restore(folder: RunFolder, model: RetrievalModel, optimizer: Any) -> Picked:
    """Go back to the last checkpoint; what the epochs up to it came to."""
    state = folder.last_checkpoint()
    if state is None:
        if folder.history_file.exists():
            folder.cut_history(0)
        return Picked()
    own = model.state()
    fits = set(own) == set(state["weights"])
    if not fits or any(value.shape != own[name].shape for name, value in state["weights"].items()):
        raise ValueError("the checkpoint does not fit the run's plan; start a new run in another folder")
    with torch.no_grad():
        for name, value in state["weights"].items():
            own[name].copy_(value)
    try:
        optimizer.load_state_dict(state["optimizer"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the checkpoint's optimizer does not fit the run's plan ({error})") from None
    scaler = getattr(optimizer, "scaler", None)
    if scaler is not None and state["scaler"] is not None:
        scaler.load_state_dict(state["scaler"])
    picked = Picked(**state["picked"])
    folder.cut_history(picked.last)
    return picked
