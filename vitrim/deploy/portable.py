"""Scatters as one-hot products: for inference engines that do not take them, or take them wrongly.

    scatter:      out_n = v_r where index_r = n, self_n where no index is n
    scatter_add:  out_n = self_n + sum_r [index_r = n] v_r

with [index_r = n] a matrix of zeros and ones. Only along the last dimension, the one that token indices have.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _one_hot(index: Tensor, count: int) -> Tensor:
    """[..., R] -> [..., R, count], true where the column is the index."""
    return index[..., None] == torch.arange(count, device=index.device)


def _check(target: Tensor, dim: int) -> None:
    if dim % target.ndim != target.ndim - 1:
        raise ValueError(f"a scatter along dimension {dim} of {target.ndim} has no portable form here")


def scatter_values(target: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`target.scatter(dim, index, source)` for indices that do not repeat."""
    _check(target, dim)
    hot = _one_hot(index, target.shape[-1])  # [..., R, N]
    taken = torch.where(hot, source[..., None], torch.zeros_like(source)[..., None]).sum(-2)  # [..., N]
    return torch.where(hot.any(-2), taken.to(target.dtype), target)


def scatter_value(target: Tensor, dim: int, index: Tensor, value: float) -> Tensor:
    """`target.scatter(dim, index, value)`"""
    _check(target, dim)
    hot = _one_hot(index, target.shape[-1])
    return torch.where(hot.any(-2), torch.full_like(target, value), target)


def scatter_added(target: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`target.scatter_add(dim, index, source)`"""
    _check(target, dim)
    hot = _one_hot(index, target.shape[-1]).to(source.dtype)
    return target + (source[..., None, :] @ hot).squeeze(-2)


ONE_HOT: dict[Any, Callable[..., Tensor]] = {
    aten.scatter.src: scatter_values,
    aten.scatter.value: scatter_value,
    aten.scatter_add.default: scatter_added,
}

SCATTERING = ("scatter", "index_add", "index_put", "index_copy")


def scatters(program: torch.export.ExportedProgram) -> list[str]:
    """The scatter operators that a program still has."""
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    return sorted(name for name in names if any(word in name for word in SCATTERING))
