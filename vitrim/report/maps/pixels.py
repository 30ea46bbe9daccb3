"""Images as arrays that can be painted on, and which patch each pixel belongs to."""

from __future__ import annotations

import numpy
from numpy.typing import NDArray
from torch import Tensor

from vitrim.network.model import StagedViT

Pixels = NDArray[numpy.float64]  # [height, width, 3], values 0 to 1
Cells = NDArray[numpy.int64]  # [height, width], the patch each pixel is in


def as_pictures(model: StagedViT, images: Tensor) -> list[Pixels]:
    """Undo the normalisation of [B, C, height, width]; one channel is grey, of more than three the first
    three are shown, each from its lowest value to its highest.
    """
    mean, std = numpy.array(model.preprocess.mean), numpy.array(model.preprocess.std)
    pixels = images.detach().cpu().double().permute(0, 2, 3, 1).numpy() * std + mean
    shown = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1].repeat(3, axis=-1)
    if pixels.shape[-1] not in (1, 3):
        low, high = shown.min((1, 2), keepdims=True), shown.max((1, 2), keepdims=True)
        shown = (shown - low) / numpy.where(high > low, high - low, 1)
    return list(shown.clip(0, 1))


def cells_of(height: int, width: int, grid: tuple[int, ...]) -> Cells:
    """The patch of every pixel, also where patches do not divide the image evenly."""
    rows, columns = grid[-2:]
    down = numpy.arange(height) * rows // height
    across = numpy.arange(width) * columns // width
    return down[:, None] * columns + across[None, :]


def edges(groups: Cells) -> NDArray[numpy.bool_]:
    """Pixels that touch a pixel of another group: rims one pixel wide on either side of every border."""
    found = numpy.zeros(groups.shape, dtype=bool)
    down, across = groups[1:] != groups[:-1], groups[:, 1:] != groups[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= across
    found[:, :-1] |= across
    return found


def mean_colours(pixels: Pixels, groups: Cells, count: int) -> Pixels:
    """The mean colour of each of `count` groups of pixels: [count, 3]. Pixels of group -1 count nowhere."""
    flat = groups.ravel()
    there = flat >= 0
    members = numpy.bincount(flat[there], minlength=count)
    sums = [
        numpy.bincount(flat[there], weights=pixels[..., channel].ravel()[there], minlength=count)
        for channel in range(3)
    ]
    return numpy.stack(sums, axis=-1) / numpy.maximum(members, 1)[:, None]
