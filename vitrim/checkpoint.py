"""State between two epochs: what trains, the optimiser's memory, the best epoch so far. Written whole, read
back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from vitrim.run_folder import RunFolder
from vitrim.saving import saved_tensors
from vitrim.stage import StagedViT
from vitrim.training import Training

if TYPE_CHECKING:
    from accelerate import Accelerator

Best = dict[str, float]  # "epoch" and "score" of the best validation so far; empty before the first


def keep_epoch(
    folder: RunFolder, model: StagedViT, optimizer: torch.optim.Optimizer, accelerator: Accelerator,
    row: Mapping[str, Any], best: Best, training: Training,
) -> Best:  # fmt: skip
    """Write down a finished epoch. The order matters: the checkpoint comes last, and only it makes the epoch
    count.
    """
    epoch = row["epoch"]
    better = training.select == "val" and row["val_top1"] > best.get("score", -1.0)
    best = {"epoch": epoch, "score": row["val_top1"]} if better else best
    if accelerator.is_main_process:
        folder.append_history(row)
        if better:
            folder.save_best(epoch, {"weights": saved_tensors(model)})
        folder.save_checkpoint(epoch, snapshot(model, optimizer, accelerator, epoch, best))
        if best:
            folder.drop_other_bests(int(best["epoch"]))
    return best


def snapshot(
    model: StagedViT, optimizer: torch.optim.Optimizer, accelerator: Accelerator, epoch: int, best: Best
) -> dict[str, Any]:
    scaler = accelerator.scaler
    return {
        "epoch": epoch,
        "best": best,
        "methods": [repr(method) for method in model.methods],
        "weights": saved_tensors(model),
        "optimizer": optimizer.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
    }


def restore(
    folder: RunFolder, model: StagedViT, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> tuple[int, Best]:
    """Go back to the last checkpoint of the folder: how many epochs are done, and the best of them."""
    state = folder.last_checkpoint()
    if state is None:
        state = {"epoch": 0, "best": {}}
    else:
        fill(model, state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
    if accelerator.is_main_process and folder.history_file.exists():
        folder.cut_history(state["epoch"])
    return state["epoch"], state["best"]


def fill(model: StagedViT, weights: Mapping[str, torch.Tensor]) -> None:
    """Put saved weights back into a model of the same composition."""
    own = saved_tensors(model)
    if set(own) != set(weights):
        odd = sorted(set(own) ^ set(weights))[0]
        raise ValueError(f"the checkpoint does not fit this composition: they differ in {odd}")
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
