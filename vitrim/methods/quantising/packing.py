"""How quantised weights stand in a saved file: one row of bytes for each layer, in place of its floats.

A row holds the level indices in row-major order, 8 / bits to the byte, the first in the lowest bits, an
incomplete last byte filled with zeros; then mean and deviation of the matrix, two little-endian float32.
While a model is in memory and in the checkpoints of a run, floats stay floats, so training goes on where
it stopped.
"""

from collections.abc import Iterator, Mapping

import numpy
import torch
from torch import Tensor, nn

from vitrim.methods.quantising.linear import EPSILON, Packed, QuantisedLinear, level_values, unpack_levels

TAIL = 8  # bytes of mean and deviation
STEPS = 500
TOLERANCE = 1e-8  # of mean and deviation, in deviations: less than float32 resolves


def pack_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a model with the weight of every quantised layer among them as a row of bytes."""
    values = dict(tensors)
    for name, layer in _quantised(model):
        if name in values and (packed := _packable(layer)):
            tail = numpy.array([packed.mean.item(), packed.deviation.item()], dtype="<f4")
            values[name] = torch.cat([packed.levels.cpu(), torch.from_numpy(tail.view(numpy.uint8))])
    return values


def unpack_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse: floats that the layers round to exactly what was stored.

    Raises:
        ValueError: if a row of bytes has another length than the model's layer needs.
    """
    values = dict(tensors)
    for name, layer in _quantised(model):
        row = values.get(name)
        if row is None or row.dtype != torch.uint8:
            continue
        size = _row_bytes(layer)
        if row.shape != (size + TAIL,):
            raise ValueError(f"{name} holds {row.numel()} bytes; at {layer.bits} bits it takes {size + TAIL}")
        mean, deviation = torch.from_numpy(numpy.frombuffer(row[size:].numpy().tobytes(), dtype="<f4").copy())
        values[name] = unrounded(Packed(row[:size], mean, deviation), layer.bits, tuple(layer.weight.shape))
    return values


def packed_lengths(model: nn.Module) -> dict[str, int]:
    """How many bytes the row of each quantised weight takes, by name; shapes are enough to say."""
    return {name: _row_bytes(layer) + TAIL for name, layer in _quantised(model)}


def _row_bytes(layer: QuantisedLinear) -> int:
    return -(-layer.weight.numel() * layer.bits // 8)


def unrounded(packed: Packed, bits: int, shape: tuple[int, ...]) -> Tensor:
    """A float32 matrix that packs to this: weights in their cells, mean and deviation as stored.

    Level times deviation plus mean would not do: its own mean and deviation differ, so it would be
    rounded to other values. The levels are stretched and shifted, each kept in its cell, until mean and
    deviation are right.

    Raises:
        ValueError: if no such matrix is found; bytes that came from a matrix have one.
    """
    indices = unpack_levels(packed.levels, bits, torch.Size(shape).numel())
    mean, deviation = packed.mean.double(), packed.deviation.double()
    if deviation == 0:
        return mean.float().expand(shape).clone()
    wanted = (deviation / (deviation + EPSILON)).item()
    for stretched in (slice(None), slice(0, None, 2**bits - 1)):  # all levels, or only the two outermost
        values = _fit(indices, level_values(bits).double(), wanted, stretched)
        if values is not None:
            return (values * (deviation + EPSILON) + mean).float().view(shape)
    raise ValueError(f"packed weights of shape {shape} fit no matrix of deviation {deviation:.3g}")


def _fit(indices: Tensor, levels: Tensor, wanted: float, stretched: slice) -> Tensor | None:
    """Values in the cells of `indices` with mean 0 and deviation `wanted`, or None if not found."""
    middles, outermost = (levels[1:] + levels[:-1]) / 2, torch.full((1,), torch.inf, dtype=levels.dtype)
    margin = 1e-3 * levels.diff().min()  # so that rounding to float32 moves no weight over an edge
    low = torch.cat([-outermost, middles])[indices] + margin
    high = torch.cat([middles, outermost])[indices] - margin
    stretch, shift = 1.0, 0.0
    for _ in range(STEPS):
        moved = levels.clone()
        moved[stretched] *= stretch
        values = (moved + shift)[indices].clamp(low, high)
        mean, deviation = values.mean().item(), values.std().item()
        if abs(mean) < TOLERANCE and abs(deviation - wanted) < TOLERANCE:
            return values
        stretch, shift = stretch * wanted / deviation, shift - mean
    return None


def _packable(layer: QuantisedLinear) -> Packed | None:
    """The layer packed, or None where `unrounded` would not find the way back (8 bits with far outliers)."""
    packed = layer.packed()
    try:
        unrounded(packed, layer.bits, tuple(layer.weight.shape))
    except ValueError:
        return None
    return packed


def _quantised(model: nn.Module) -> Iterator[tuple[str, QuantisedLinear]]:
    """Names of weights and their layers."""
    for name, module in model.named_modules():
        if isinstance(module, QuantisedLinear):
            yield f"{name}.weight", module
