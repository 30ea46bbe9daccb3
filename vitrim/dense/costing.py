"""What a dense model costs for one picture of its own size: backbone, restoring and head."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vitrim.dense.model import DenseModel
from vitrim.measuring.counting import MacCounter, counting, without_values


@dataclass(frozen=True)
class DenseCosts:
    """Multiply-accumulates of one window (as executed, conventions of `vitrim.measuring.costs`), those of
    them in the head, and parameters."""

    macs: int
    macs_head: int
    trained: int
    total: int

    @property
    def gmacs(self) -> float:
        return self.macs / 1e9


@torch.inference_mode(False)
def dense_costs(model: DenseModel, image_size: tuple[int, int] | None = None) -> DenseCosts:
    """Counted from shapes, without images or values."""
    twin = without_values(model)
    like = next(twin.parameters())
    size = model.image_size if image_size is None else image_size
    images = torch.empty(1, model.staged.preprocess.channels, *size, dtype=like.dtype, device=like.device)
    counter = MacCounter()
    counter.name(twin.head, "head")
    with counting(counter):
        twin.decode(images)
    return DenseCosts(
        macs=counter.total,
        macs_head=counter.parts["head"],
        trained=sum(weight.numel() for weight in model.trained().values()),
        total=sum(weight.numel() for weight in model.parameters()),
    )
