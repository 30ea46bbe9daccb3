"""State between two epochs: what trains, its running mean, the optimiser's memory, which epoch is best so
far. Written whole, read back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from vitrim.files.saving import Trainable, saved_tensors
from vitrim.reading import short
from vitrim.runs.checkpoint_files import plain
from vitrim.runs.folder import RunFolder
from vitrim.settings.epoch_choice import Picked
from vitrim.settings.training_choices import Select
from vitrim.training.averaging import RunningMean

if TYPE_CHECKING:
    from accelerate import Accelerator

DAMAGED = "the checkpoint is damaged or of another version of torch: its"


@dataclass(frozen=True)
class Trained:
    """What changes while a run goes on."""

    model: Trainable
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
                folder.save_best(epoch, {"format": 1, "weights": saved_tensors(trained.model)})
        folder.save_checkpoint(epoch, snapshot(trained, picked))
        if picked.epoch:
            folder.drop_other_bests(before.epoch, picked.epoch)  # what the two checkpoints there name
    return picked


def snapshot(trained: Trained, picked: Picked) -> dict[str, Any]:
    scaler = trained.accelerator.scaler
    return {
        "format": 1,
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
        check_memory(trained, state)
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


def fill_weights(model: Trainable, weights: Mapping[str, torch.Tensor]) -> None:
    """Put saved weights back into a model of the same composition."""
    own = saved_tensors(model)
    if set(own) != set(weights):
        odd = sorted(set(own) ^ set(weights))[0]
        raise ValueError(f"the checkpoint does not fit this composition: they differ in {odd}")
    for name, value in weights.items():
        if value.shape != own[name].shape:
            shapes = f"{tuple(value.shape)}, the model {tuple(own[name].shape)}"
            raise ValueError(f"the checkpoint does not fit this composition: {name} has shape {shapes}")
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)


def check_memory(trained: Trained, state: Mapping[str, Any]) -> None:
    """Refuse what the optimiser, the running mean or the gradient scaler could not have written."""
    mean, scaler = trained.mean.state(), trained.accelerator.scaler
    if mean is not None:
        _check_alike("mean", state["mean"], mean)
    if scaler is not None:
        _check_alike("scaler", state["scaler"], scaler.state_dict())
    own, theirs = trained.optimizer.state_dict(), state["optimizer"]
    groups, memory = theirs.get("param_groups"), theirs.get("state")
    if not isinstance(groups, list) or len(groups) != len(own["param_groups"]):
        raise ValueError(f"{DAMAGED} optimizer.param_groups are not those of this optimiser")
    for index, (found, wanted) in enumerate(zip(groups, own["param_groups"], strict=True)):
        _check_alike(f"optimizer.param_groups.{index}", found, wanted)
        if found["params"] != wanted["params"]:
            raise ValueError(
                f"{DAMAGED} optimizer.param_groups.{index}.params are not those of this optimiser"
            )
    weights = [weight for group in trained.optimizer.param_groups for weight in group["params"]]
    if not isinstance(memory, dict):
        raise ValueError(f"{DAMAGED} optimizer.state is {short(memory)}, but should be names with values")
    for index, values in memory.items():
        known = type(index) is int and 0 <= index < len(weights) and isinstance(values, dict)
        if not known or not all(_remembered(value, weights[index]) for value in values.values()):
            raise ValueError(f"{DAMAGED} optimizer.state.{short(index)} does not fit the weights that train")
    kept = {name for values in memory.values() for name in values}
    if any(set(values) != kept for values in memory.values()):
        raise ValueError(f"{DAMAGED} optimizer.state holds less for some weights than for others")


def _remembered(value: object, weight: torch.Tensor) -> bool:
    """Whether an optimiser may remember this about a weight: a number, or something of its shape."""
    return (
        value is None or isinstance(value, int | float)
        or (plain(value) and (value.numel() == 1 or value.shape == weight.shape))  # type: ignore[attr-defined]
    )  # fmt: skip


def _check_alike(name: str, found: object, wanted: Mapping[str, Any]) -> None:
    """Refuse values that have not the names, types and shapes of those wanted."""
    if not isinstance(found, Mapping) or set(found) != set(wanted):
        odd = sorted(map(str, set(found) ^ set(wanted))) if isinstance(found, Mapping) else [short(found)]
        raise ValueError(f"{DAMAGED} {name} does not fit this run: it differs in {odd[0][:60]}")
    for key, value in wanted.items():
        other = found[key]
        if isinstance(value, torch.Tensor):
            fits = plain(other) and other.shape == value.shape
        else:
            numbers = isinstance(value, float) and type(other) is int
            fits = type(other) is type(value) or value is None or numbers
        if not fits:
            raise ValueError(f"{DAMAGED} {name}.{key} is {short(other)}, which does not fit this run")
