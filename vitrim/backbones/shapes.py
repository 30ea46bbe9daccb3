"""Models without weights: what is asked of them is their parts, their shapes and what they cost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# What initialisers call. Each costs as much as on a real tensor, or more: meta tensors go through Python
FILLING = {
    "uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_", "kaiming_uniform_",
    "kaiming_normal_", "constant_",
}  # fmt: skip


class _WithoutFilling(TorchFunctionMode):
    """Values are not written to tensors that have none."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") in FILLING:
            filled = args[0] if args else (kwargs or {}).get("tensor")  # as torch.nn.init names it
            if isinstance(filled, Tensor) and filled.is_meta:
                return filled
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_only() -> Iterator[None]:
    """What is built inside is on the meta device, as by `torch.device("meta")`, in a quarter of the time."""
    with torch.device("meta"), _WithoutFilling():
        yield
