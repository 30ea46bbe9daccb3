"""A bound on what is allocated while a model is built from a file, so that a rank, a width or a number of
prompts in it cannot ask for more than its tensors or this machine could hold."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

SPARE = 2**24  # values that any model may take beside its weights: masks, tables, start values
PER_STORED = 64  # a stored byte holds eight weights of one bit; start values are drawn and thrown away
FLOAT32 = 4


def values_in(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def fitting_stored(count: int) -> int:
    """How many values may be made for a model of which `count` are stored."""
    return PER_STORED * count + SPARE


def fitting_memory() -> int:
    """How many values may be made here, twice what fits the memory: some are thrown away at once."""
    try:
        held = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not known on this system
        held = 2**37
    return 2 * held // FLOAT32


class Budget(TorchDispatchMode):
    """Refuses to make tensors of more than `most` values in total.

    Args:
        most: how many values may be made.
        refusal: the sentence to refuse with.
    """

    def __init__(self, most: int, refusal: str) -> None:
        super().__init__()
        self.left, self.refusal = most, refusal

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if not any(isinstance(value, Tensor) for value in args):
            self.left -= _asked(args, options)
            if self.left < 0:
                raise ValueError(self.refusal)
        return func(*args, **options)


def _asked(args: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    """How many values an operation without tensors makes: those of its shape, or its largest number."""
    device = options.get("device")
    if device is not None and torch.device(device).type == "meta":
        return 0
    shapes = [value for value in args if isinstance(value, list | tuple | torch.Size)]
    if shapes:  # or tensors, as to join them
        return math.prod(shapes[0]) if all(isinstance(size, int) for size in shapes[0]) else 0
    numbers = [abs(value) for value in args if isinstance(value, int | float) and math.isfinite(value)]
    return int(max(numbers, default=0))
