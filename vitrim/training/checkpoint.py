"""State between two epochs: what trains, its running mean, the optimiser's memory, which epoch is best so
far. Written whole, read back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from vitrim.files.saving import saved_tensors
from vitrim.network.stage import StagedViT
from vitrim.runs.folder import RunFolder
from vitrim.settings.epoch_choice import Picked
from vitrim.settings.training_choices import Select
from vitrim.training.averaging import RunningMean

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Trained:
    """What changes while a run goes on."""

    model: StagedViT
    optimizer: torch.optim.Optimizer
    mean: RunningMean
    accelerator: Accelerator


def keep_epoch(
    folder: RunFolder, trained: Trained, row: Mapping[str, Any], picked: Picked, select: Select
) -> Picked:
    """Write down a finished epoch. The order matters: the checkpoint comes last, and only it makes the epoch
    count.
    """
    before, picked = picked, picked.after(row, select)
    epoch = picked.last
    if trained.accelerator.is_main_process:
        folder.append_history(row)
        if picked.epoch == epoch:
            with trained.mean.in_place():
                folder.save_best(epoch, {"weights": saved_tensors(trained.model)})
        folder.save_checkpoint(epoch, snapshot(trained, picked))
        if picked.epoch:
            folder.drop_other_bests(before.epoch, picked.epoch)  # what the two checkpoints there name
    return picked


def snapshot(trained: Trained, picked: Picked) -> dict[str, Any]:
    scaler = trained.accelerator.scaler
    return {
        "epoch": picked.last,
        "picked": picked.to_json(),
        "methods": [repr(method) for method in trained.model.methods],
        "weights": saved_tensors(trained.model),
        "mean": trained.mean.state(),
        "optimizer": trained.optimizer.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
    }


def restore_checkpoint(folder: RunFolder, trained: Trained) -> Picked:
    """Go back to the last checkpoint of the folder; what the epochs up to it came to."""
    state = folder.last_checkpoint()
    picked = Picked()
    if state is not None:
        picked = Picked(**state["picked"])
        fill_weights(trained.model, state["weights"])
        trained.mean.restore(state["mean"])
        trained.optimizer.load_state_dict(state["optimizer"])
        if trained.accelerator.scaler is not None:
            trained.accelerator.scaler.load_state_dict(state["scaler"])
    if len(folder.history()) < picked.last:
        raise FileNotFoundError(
            f"{folder.history_file} lacks some of the {picked.last} epochs that were trained; put it back to "
            "go on, or start a new run in another folder"
        )
    if trained.accelerator.is_main_process and folder.history_file.exists():
        folder.cut_history(picked.last)
    return picked


def fill_weights(model: StagedViT, weights: Mapping[str, torch.Tensor]) -> None:
    """Put saved weights back into a model of the same composition."""
    own = saved_tensors(model)
    if set(own) != set(weights):
        odd = sorted(set(own) ^ set(weights))[0]
        raise ValueError(f"the checkpoint does not fit this composition: they differ in {odd}")
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
