"""A batch of images with captions, and what it is trained by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """A batch of images with a caption each.

    Attributes:
        images: [B, 3, height, width]
        ids, mask: token ids and mask of the captions [B, L]
        image_ids: [B], the same number for captions of the same image, 0 or more.
    """

    images: Tensor
    ids: Tensor
    mask: Tensor
    image_ids: Tensor

    def to(self, device: torch.device | str) -> Pairs:
        moved = {name: value.to(device) for name, value in vars(self).items()}
        return replace(self, **moved)


@dataclass(frozen=True)
class Losses:
    """What a batch is trained by; `itm` and `penalty` are None where there is none."""

    itc: Tensor
    itm: Tensor | None = None
    penalty: Tensor | None = None

    @property
    def total(self) -> Tensor:
        parts = [part for part in (self.itm, self.penalty) if part is not None]
        return sum(parts, self.itc)
