"""Clips as pictures: the frames of one beside each other, and so their maps of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from torch import Tensor

from vitrim.network.model import StagedViT
from vitrim.report.maps.pixels import Pixels, as_pictures
from vitrim.report.maps.tokens import TokenMap


def first_frames(images: Tensor) -> Tensor:
    """Images as they are; of clips [B, V, C, T, height, width] all frames of each first view.

    [B*T, C, height, width]
    """
    return images[:, 0].transpose(1, 2).flatten(0, 1) if images.ndim == 6 else images


def pictures_of(model: StagedViT, images: Tensor) -> list[Pixels]:
    """A picture of each image, a strip of frames of each clip."""
    frames = as_pictures(model, first_frames(images))
    if images.ndim != 6:
        return frames
    count = images.shape[3]
    return [numpy.concatenate(frames[start : start + count], 1) for start in range(0, len(frames), count)]


def map_strip(maps: Sequence[TokenMap]) -> TokenMap:
    """The maps of a clip's frames after one block as one; tokens of different frames stay different."""
    numbers = [each.group.max(initial=0) + 1 for each in maps]
    starts = [sum(numbers[:place]) for place in range(len(maps))]
    groups = [
        numpy.where(each.group < 0, -1, each.group + start) for each, start in zip(maps, starts, strict=True)
    ]
    torn = sum(each.scattered[0] for each in maps)
    several = [each.scattered[0] / each.scattered[1] for each in maps if each.scattered[1]]
    return TokenMap(
        maps[0].block,
        numpy.concatenate([each.picture for each in maps], 1),
        numpy.concatenate(groups, 1),
        numpy.concatenate([each.fate for each in maps], 1),
        numpy.concatenate([each.skipped for each in maps], 1),
        (torn, torn / sum(several) if several else 0.0),
        len(maps),
    )
