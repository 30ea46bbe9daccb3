"""What makes class logits of the restored maps.

linear    batch norm and one 1 x 1 convolution on the last tap: what is known without any decoder
upernet   UPerNet (arXiv 1807.10221) on four taps: pooling to 1, 2, 3 and 6 cells of the coarsest map,
          a feature pyramid over the others, all fused; while it trains, a small head on the third tap
          learns the same with weight 0.4
smp:NAME  a decoder of segmentation-models-pytorch on the same four sizes (see `borrowed.py`)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.dense.pyramid import TapPyramid

AUXILIARY = 0.4  # weight of the auxiliary head in the loss
CHANNELS = 256  # of the decoder
POOLED = (1, 2, 3, 6)


class DenseHead(nn.Module):
    """Base of the heads: maps [B, D, rows, columns] of the taps in, logits [B, K, rows', columns'] out."""

    pointwise = False
    """whether every cell is decoded by itself, from the last tap alone"""
    taps: int | None = None
    """how many taps it needs; None for any number"""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        raise NotImplementedError

    def auxiliary(self, maps: Sequence[Tensor]) -> Tensor | None:
        """Further logits that the loss compares while training."""
        return None

    def check_batch(self, maps: Sequence[Tensor]) -> None:
        """Refuse to train on single images where a map is pooled to one cell and then normed."""
        if self.training and maps[0].shape[0] == 1:
            raise ValueError(
                "this head takes mean and variance over the batch, of maps that it pools to one cell: train "
                "it with at least two images in a batch (drop_last=true leaves a single last one out)"
            )


class LinearHead(DenseHead):
    """Batch norm and a 1 x 1 convolution on the last tap."""

    pointwise = True

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(self.norm(maps[-1]))
        return logits

    def of_tokens(self, tokens: Tensor) -> Tensor:
        """The same for tokens without a grid: [B, n, D] -> [B, n, K]"""
        return self.forward([tokens.transpose(1, 2)[..., None]])[..., 0].transpose(1, 2)


class UPerNetHead(DenseHead):
    """UPerNet on four taps."""

    taps = 4

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        channels = CHANNELS
        self.pyramid = TapPyramid(width)
        self.pooled = nn.ModuleList(_convolution(width, channels, 1) for _ in POOLED)
        self.coarsest = _convolution(width + len(POOLED) * channels, channels, 3)
        self.sideways = nn.ModuleList(_convolution(width, channels, 1) for _ in range(3))
        self.smooth = nn.ModuleList(_convolution(channels, channels, 3) for _ in range(3))
        self.fuse = _convolution(4 * channels, channels, 3)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(channels, classes, 1)
        self.second = nn.Sequential(
            _convolution(width, channels, 3), nn.Dropout2d(0.1), nn.Conv2d(channels, classes, 1)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        self.check_batch(maps)
        sizes = self.pyramid(maps)  # finest first
        top = self.coarsest(torch.cat([sizes[-1], *self._context(sizes[-1])], dim=1))
        found = [top]
        for index in (2, 1, 0):
            top = self.sideways[index](sizes[index]) + resized(top, sizes[index])
            found.append(self.smooth[index](top))
        fused = self.fuse(torch.cat([resized(each, sizes[0]) for each in found], dim=1))
        logits: Tensor = self.classifier(self.dropout(fused))
        return logits

    def auxiliary(self, maps: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.second(maps[2])
        return logits

    def _context(self, coarse: Tensor) -> list[Tensor]:
        """The coarsest map averaged to a few cells and spread again."""
        return [
            resized(convolution(F.adaptive_avg_pool2d(coarse, cells)), coarse)
            for cells, convolution in zip(POOLED, self.pooled, strict=True)
        ]


def resized(maps: Tensor, like: Tensor | tuple[int, int]) -> Tensor:
    """Maps or logits at another size, bilinearly, by the middles of cells: never by corners."""
    size = like if isinstance(like, tuple) else tuple(like.shape[-2:])
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _convolution(width: int, channels: int, kernel: int) -> nn.Module:
    convolution = nn.Conv2d(width, channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())
