"""Counting multiply-accumulates on a copy of a model that has shapes but no values.

The copy may be hooked and changed, because nobody else holds it; the model itself is only read.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from vitrim.network.copying import AnyModule, copied

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


def _normalised(given: tuple[Any, ...]) -> tuple[Tensor, Tensor, Tensor]:
    tokens, shape = given[0], given[1]
    kept = tokens.shape[: tokens.ndim - len(shape)]
    statistic = tokens.new_empty((*kept, *[1] * len(shape)))
    return tokens.new_empty(tokens.shape), statistic, statistic


def _alike(given: tuple[Any, ...]) -> Tensor:
    return given[0].new_empty(given[0].shape)


def _like_first(given: tuple[Any, ...]) -> Tensor | None:
    """Of values and a number, or others that fit their last dimensions; None for anything else."""
    first, second = given[0], given[1]
    if isinstance(second, Tensor):
        further = first.ndim - second.ndim
        fits = further >= 0 and second.shape == first.shape[further:] and second.dtype == first.dtype
    else:
        fits = isinstance(second, int | float)
    return _alike(given) if fits and first.is_floating_point() else None


def _clamped(given: tuple[Any, ...]) -> Tensor | None:
    return _alike(given) if given[0].is_floating_point() else None


# Results without values of what takes most of the time to count: torch works their shapes out in Python.
# None: here it has to.
SHAPES: dict[Any, Callable[[tuple[Any, ...]], Any]] = {
    aten.add.Tensor: _like_first,
    aten.sub.Tensor: _like_first,
    aten.mul.Tensor: _like_first,
    aten.div.Tensor: _like_first,
    aten.mul.Scalar: _like_first,
    aten.clamp.default: _clamped,
    aten.addmm.default: lambda given: given[1].new_empty((given[1].shape[0], given[2].shape[1])),
    aten.native_layer_norm.default: _normalised,
    aten._safe_softmax.default: _alike,
    aten.gelu.default: _alike,
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
        shape = SHAPES.get(func) if args and isinstance(args[0], Tensor) and args[0].is_meta else None
        result = None if shape is None else shape(args)
        if result is None:
            result = func(*args, **(kwargs or {}))
        rule = RULES.get(func.overloadpacket)
        if rule is not None:
            macs = rule(args, result)
            self.total += macs
            for part in self._running:
                self.parts[part] += macs
        return result


def without_values(model: AnyModule) -> AnyModule:
    """A copy on the meta device, in evaluation mode: every layer and setting, no weight is read or copied.

    Parts whose work depends on the image see `is_meta` and take the share they are set for.
    """
    stand_ins: dict[int, Any] = {}
    for weight in model.parameters():
        stand_ins[id(weight)] = nn.Parameter(weight.detach().to("meta"), weight.requires_grad)
    for buffer in model.buffers():
        stand_ins[id(buffer)] = buffer.detach().to("meta")
    return copied(model, stand_ins).eval()


@contextmanager
def counting(counter: MacCounter) -> Iterator[None]:
    """Count with `counter`, attention taken apart into products: a fused kernel counts as nothing."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        yield
