"""Linear layers whose weights are stored in one to eight bits: for FPET's key refinement, LoRA and adapters.

Equations from Jie et al., "Revisiting the Parameter Efficiency of Adapters from the Perspective of Precision
Redundancy" (arXiv 2307.16867). With m and sd the mean and the unbiased deviation of the whole matrix w:

    v = (w - m) / (sd + 1e-5),    q = the level of v,    W = (q + v - sg(v)) sd + m

A float copy trains; the forward pass uses W. sg stops the gradient, so it passes straight through the
rounding, and through m and sd. The levels are the medians of the cells they serve under N(0, 1): +-.67449
for one bit, +-.37775 and +-1.26572 for two. A tie between two levels takes the lower; the released code takes
the value half-way, which cannot be packed.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.backbones.tuned_linear import plain_linear
from vitrim.checks import check_one_of

BITS = (1, 2, 4, 8)
EPSILON = 1e-5


class Packed(NamedTuple):
    """A quantised matrix as it is stored.

    Attributes:
        levels: uint8, level indices in row-major order, 8 / bits to the byte, the first in the least
            significant bits; unlike the released format, an incomplete last byte is kept, filled with zeros.
        mean, deviation: float32 scalars; a weight is levels[index] * deviation + mean.
    """

    levels: Tensor
    mean: Tensor
    deviation: Tensor


class QuantisedLinear(nn.Linear):
    """A linear layer that computes with its weight rounded to `bits` bits; a bias stays a float."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bits: int = 1,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_one_of(type(self).__name__, "bits", bits, BITS)
        super().__init__(in_features, out_features, bias=bias, device=device, dtype=dtype)
        self.bits = bits
        levels = level_values(bits, self.weight.device).to(self.weight.dtype)
        self.levels: Tensor
        self.register_buffer("levels", levels, persistent=False)  # follows the module's dtype and device

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.rounded_weight(), self.bias)

    def rounded_weight(self) -> Tensor:
        """W, the weight the layer computes with; differentiable."""
        return fake_quantise(self.weight, self.levels)

    def merged(self) -> nn.Linear:
        """A plain layer that computes the same."""
        return plain_linear(self.rounded_weight(), self.bias)

    def packed(self) -> Packed:
        """The weight as it is stored: `dequantise` gives W back, up to the rounding to float32."""
        weight = self.weight.detach()
        mean, deviation = weight.mean(), weight.std()
        indices = level_indices(standardise(weight, mean, deviation), self.levels)
        return Packed(pack_levels(indices, self.bits), mean.float(), deviation.float())

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bits={self.bits}"


def fake_quantise(weight: Tensor, levels: Tensor) -> Tensor:
    """The weight with every entry at its level; gradients pass through rounding, mean and deviation."""
    mean, deviation = weight.mean(), weight.std()
    normed = standardise(weight, mean, deviation)
    rounded = levels[level_indices(normed.detach(), levels)]
    if normed.requires_grad:
        rounded = rounded + (normed - normed.detach())
    return rounded * deviation + mean


def standardise(weight: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Zero mean, unit deviation over the whole matrix; epsilon is in the division only."""
    return (weight - mean) / (deviation + EPSILON)


def level_indices(normed: Tensor, levels: Tensor) -> Tensor:
    """Which level is nearest: how many middles between neighbouring levels lie below. [...] -> [...]"""
    return torch.bucketize(normed, (levels[1:] + levels[:-1]) / 2)


def dequantise(packed: Packed, bits: int, shape: tuple[int, ...]) -> Tensor:
    """The float32 weight a packed matrix stands for. A layer that holds it must not be rounded again."""
    indices = unpack_levels(packed.levels, bits, torch.Size(shape).numel()).view(shape)
    return level_values(bits, indices.device)[indices] * packed.deviation + packed.mean


def pack_levels(indices: Tensor, bits: int) -> Tensor:
    """Level indices in row-major order, 8 / bits to the byte, the first lowest. -> uint8 [bytes]"""
    check_one_of("pack_levels", "bits", bits, BITS)
    flat = indices.flatten()
    rows = F.pad(flat, (0, -len(flat) % (8 // bits))).view(-1, 8 // bits)
    return (rows << _shifts(bits, flat.device)).sum(1).to(torch.uint8)


def unpack_levels(content: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` level indices of packed bytes."""
    check_one_of("unpack_levels", "bits", bits, BITS)
    if len(content) != -(-count * bits // 8):
        raise ValueError(f"{len(content)} bytes cannot hold exactly {count} weights of {bits} bits")
    rows = (content.long()[:, None] >> _shifts(bits, content.device)) & (2**bits - 1)
    return rows.flatten()[:count]


def _shifts(bits: int, device: torch.device) -> Tensor:
    return torch.arange(0, 8, bits, device=device)


def level_values(bits: int, device: torch.device | str = "cpu") -> Tensor:
    """The 2^bits levels in ascending order, float32."""
    check_one_of("level_values", "bits", bits, BITS)
    return torch.tensor(_k_medians(2**bits), dtype=torch.float32, device=device)


@cache
def _k_medians(count: int, steps: int = 500) -> tuple[float, ...]:
    """Medians of their own cells of N(0, 1), by fixed-point steps as in the released code, from equal cells.

    Up to 4 bits the steps converge to float32 precision; with 8 bits the tails depend on the start (ours).
    """
    with torch.device("cpu"):
        levels = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)
        for _ in range(steps):
            below = F.pad(torch.special.ndtr((levels[1:] + levels[:-1]) / 2), (1, 1))  # lower edges
            below[-1] = 1.0
            levels = torch.special.ndtri((below[1:] + below[:-1]) / 2)
    return tuple(((levels - levels.flip(0)) / 2).tolist())


def start_quiet(layer: nn.Linear) -> None:
    """The start of a quantised bottleneck's second layer: normal, deviation 1e-3, cut at two deviations.

    In one bit every entry is then about +-6e-4; zeros would have no deviation to learn from.
    """
    nn.init.trunc_normal_(layer.weight, std=1e-3, a=-2e-3, b=2e-3)
