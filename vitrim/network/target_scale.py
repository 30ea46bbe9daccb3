"""Numbers to predict, and the outputs that stand for them: in training each column has mean 0, deviation 1.

A head starts near 0, so prices in thousands and shares of one are learned alike, and no column outweighs
another.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TASKS = ("classify", "multilabel", "regress")
FINEST = 1e-5  # deviation over size: float32 holds no finer one


@dataclass(frozen=True)
class TargetScale:
    """Mean and standard deviation of every target, over the training images."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, names: Sequence[str], rows: Sequence[Sequence[float]]) -> "TargetScale":
        """The scale of the training images' targets, refused where a column says nothing."""
        values = torch.tensor(rows, dtype=torch.float64)  # [images, targets]
        std, mean = torch.std_mean(values, 0, correction=0)
        for name, spread, middle in zip(names, std.tolist(), mean.tolist(), strict=True):
            if spread == 0:
                raise ValueError(
                    f"the target {name!r} is {middle:g} for every training image, so there is nothing to "
                    "learn; leave it out"
                )
            if spread < FINEST * abs(middle):
                raise ValueError(
                    f"the target {name!r} differs by {spread:g} around {middle:g}, finer than the numbers of "
                    "a model; subtract a constant in the table"
                )
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def outputs(self, values: Tensor) -> Tensor:
        """Targets as a model is to put them out [B, targets]."""
        return (values - values.new_tensor(self.mean)) / values.new_tensor(self.std)

    def values(self, outputs: Tensor) -> Tensor:
        """A model's outputs in the units of the targets [B, targets]."""
        return outputs * outputs.new_tensor(self.std) + outputs.new_tensor(self.mean)

    def to_json(self) -> dict[str, Any]:
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], count: int) -> "TargetScale":
        """What a file says, refused where it does not fit a head of `count` outputs."""
        mean, std = stored.get("mean"), stored.get("std")
        fits = all(
            isinstance(part, list)
            and len(part) == count
            and all(isinstance(value, int | float) and math.isfinite(value) for value in part)
            for part in (mean, std)
        )
        if not fits or not all(value > 0 for value in std):  # type: ignore[union-attr]
            raise ValueError(f"the scale of its {count} targets is damaged: {str(stored)[:80]}")
        return cls(tuple(map(float, mean)), tuple(map(float, std)))  # type: ignore[arg-type]
