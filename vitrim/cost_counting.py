"""Counting multiply-accumulates on a copy of a model that has shapes but no values.

The copy may be hooked and changed, because nobody else holds it; the model itself is only read.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from vitrim.stage import StagedViT

PER_NORMALISED_ELEMENT = 5  # fvcore's count for LayerNorm

aten = torch.ops.aten


def _product(left: Tensor, right: Tensor) -> int:
    return left.numel() * (right.shape[-1] if right.ndim > 1 else 1)  # [..., m, k] @ [..., k, n] or [k]


# Multiply-accumulates of the operations that have any, from their arguments and their result
RULES: dict[Any, Callable[[tuple[Any, ...], Any], int]] = {
    aten.mm: lambda given, _: _product(given[0], given[1]),
    aten.bmm: lambda given, _: _product(given[0], given[1]),
    aten.mv: lambda given, _: _product(given[0], given[1]),
    aten.dot: lambda given, _: _product(given[0], given[1]),
    aten.addmm: lambda given, _: _product(given[1], given[2]),
    aten.addmv: lambda given, _: _product(given[1], given[2]),
    aten.baddbmm: lambda given, _: _product(given[1], given[2]),
    aten.convolution: lambda given, result: result.numel() * prod(given[1].shape[1:]),
    aten.native_layer_norm: lambda given, _: PER_NORMALISED_ELEMENT * given[0].numel(),
}


class MacCounter(TorchDispatchMode):
    """While active, adds up multiply-accumulates: in `total`, and in `parts` for named modules."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.parts: Counter[str] = Counter()
        self._running: list[str] = []

    def name(self, module: nn.Module, part: str) -> None:
        """Count what runs inside `module` under the name `part` as well."""
        module.register_forward_pre_hook(lambda *_: self._running.append(part))
        module.register_forward_hook(lambda *_: self._leave())

    def _leave(self) -> None:
        self._running.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        rule = RULES.get(func.overloadpacket)
        if rule is not None:
            macs = rule(args, result)
            self.total += macs
            for part in self._running:
                self.parts[part] += macs
        return result


class ShapesOnly:
    """Where tensors have a shape, a type and a device (CPU), but no values."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def twin(self, model: StagedViT) -> StagedViT:
        """A copy in evaluation mode with every layer and setting; no weight is read or copied."""
        stand_ins: dict[int, Any] = {}
        for weight in model.parameters():
            stand_ins[id(weight)] = nn.Parameter(
                self.empty(*weight.shape, dtype=weight.dtype), weight.requires_grad
            )
        for buffer in model.buffers():
            stand_ins[id(buffer)] = self.empty(*buffer.shape, dtype=buffer.dtype)
        return copy.deepcopy(model, stand_ins).eval()

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """A tensor of this shape."""
        with self._mode:
            return torch.empty(shape, dtype=dtype, device="cpu")

    @contextmanager
    def counting(self, counter: MacCounter) -> Iterator[None]:
        """Count with `counter`, attention taken apart into products: a fused kernel counts as nothing."""
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), self._mode, counter:
            yield
