"""A frozen linear layer with trained products on some of its output rows, as one step of a training pass.

    y = W x + b,   y[rows_i] += scale_i B_i A_i x

The same up to rounding as a layer and its terms one by one, in fewer passes over the tokens: all A read x in
one product, every B A x is added in place to the rows it belongs to, and so is their share of the gradient of
x. Kept for the backward pass are A x and, instead of x, what the norm before keeps anyway.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.backbones.recompute import Kept, compute_dtype


class Product(NamedTuple):
    """scale * up @ down, added to the output rows `rows`."""

    down: Tensor  # [r, in]
    up: Tensor  # [rows, r]
    scale: float
    rows: slice

    def within(self, rows: slice) -> "Product":
        """The part of it that belongs to some of the outputs, where these are all there are."""
        start, stop = max(self.rows.start, rows.start), min(self.rows.stop, rows.stop)
        stop = max(start, stop)
        up = self.up[start - self.rows.start : stop - self.rows.start]
        return self._replace(up=up, rows=slice(start - rows.start, stop - rows.start))


def trains_in_one_step() -> bool:
    """Whether `summed` may run: in plain training; compilers and functorch want operators of torch's own."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    level = getattr(torch._C._functorch, "maybe_current_level", None)
    return level is not None and level() is None


def summed(inputs: Tensor, weight: Tensor, bias: Tensor | None, products: Sequence[Product]) -> Tensor:
    """The layer with its products: [..., in] -> [..., out]. `weight` does not train."""
    matrices = [matrix for each in products for matrix in (each.down, each.up)]
    places = tuple([(each.rows, each.scale, len(each.down)) for each in products])
    kept = Kept.of(inputs, compute_dtype(inputs))
    found: Tensor = _Summed.apply(inputs, weight, bias, kept, places, *matrices)
    return found


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, weight, bias, kept, places, *matrices):  # type: ignore[no-untyped-def]
        dtype = compute_dtype(inputs)
        with torch.autocast(inputs.device.type, enabled=False):
            given = inputs.to(dtype)
            outputs = F.linear(given, weight.to(dtype), None if bias is None else bias.to(dtype))
            hidden = F.linear(given, _stacked(matrices[0::2], dtype)).flatten(0, -2)  # [N, sum of r]
            flat = outputs.view(-1, outputs.shape[-1])  # [N, out]
            parts = hidden.split([width for _, _, width in places], dim=1)
            for (rows, scale, _), up, part in zip(places, matrices[1::2], parts, strict=True):
                flat[:, rows].addmm_(part, up.to(dtype).t(), alpha=scale)
        ctx.make, ctx.kept, ctx.places, ctx.compute = kept.make, len(kept.tensors), places, dtype
        ctx.save_for_backward(*kept.tensors, weight, hidden, *matrices)
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        saved = ctx.saved_tensors
        tensors, (weight, hidden, *matrices) = saved[: ctx.kept], saved[ctx.kept :]
        downs, ups, wanted = matrices[0::2], matrices[1::2], ctx.needs_input_grad
        widths = [width for _, _, width in ctx.places]
        to_inputs = to_bias = None
        with torch.autocast(gradient.device.type, enabled=False):
            gradient = gradient.to(ctx.compute)
            flat = gradient.flatten(0, -2)  # [N, out]
            asked = [flat[:, rows] for rows, _, _ in ctx.places]
            to_hidden = torch.cat([
                part @ up.to(ctx.compute) * scale
                for part, up, (_, scale, _) in zip(asked, ups, ctx.places, strict=True)
            ], dim=1)  # [N, sum of r]  # fmt: skip
            if wanted[0]:
                whole = (flat @ weight.to(ctx.compute)).addmm_(to_hidden, _stacked(downs, ctx.compute))
                to_inputs = whole.view(*gradient.shape[:-1], -1)
            if wanted[2]:
                to_bias = flat.sum(0, dtype=torch.promote_types(flat.dtype, torch.float32))
            given = ctx.make(*tensors).flatten(0, -2)  # [N, in]
            to_downs = (to_hidden.t() @ given).split(widths)
            to_ups = [
                part.t() @ low * scale
                for part, low, (_, scale, _) in zip(asked, hidden.split(widths, 1), ctx.places, strict=True)
            ]
        both = zip(to_downs, to_ups, downs, ups, strict=True)
        found = [g.to(like.dtype) for down, up, a, b in both for g, like in ((down, a), (up, b))]
        return to_inputs, None, to_bias, None, None, *found


def _stacked(matrices: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """[sum of r, in]"""
    return (matrices[0] if len(matrices) == 1 else torch.cat(list(matrices))).to(dtype)
