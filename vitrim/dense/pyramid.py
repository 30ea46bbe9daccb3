"""Maps of several sizes out of those of a plain ViT, which all have one size: for heads that were made for
hierarchical backbones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def scaled(width: int, out: int, power: int) -> nn.Module:
    """A map of `width` channels made 2^power times as large by learned 2 x 2 steps, or 2^-power times
    smaller by maxima; with `out` channels."""
    if power <= 0:
        pooled = nn.Identity() if power == 0 else nn.MaxPool2d(2**-power, ceil_mode=True)
        return nn.Sequential(pooled, nn.Identity() if out == width else nn.Conv2d(width, out, 1))
    steps: list[nn.Module] = []
    for step in range(power):
        steps += [nn.ConvTranspose2d(width if step == 0 else out, out, 2, stride=2), nn.GELU()]
    return nn.Sequential(*steps[:-1])


class TapPyramid(nn.Module):
    """One size from each tap: 4, 2, 1 and 1/2 times the grid, as segmentation of plain ViTs is usually done
    (BEiT's and DyT's: two 2 x 2 transposed convolutions with a GELU between, one, none, a maximum)."""

    def __init__(self, width: int, powers: Sequence[int] = (2, 1, 0, -1)) -> None:
        super().__init__()
        self.sizes = nn.ModuleList(scaled(width, width, power) for power in powers)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map for each size, all [B, D, rows, columns] -> the same at 4, 2, 1 and 1/2 times the size."""
        return [change(each) for change, each in zip(self.sizes, maps, strict=True)]
