"""Images at their own aspect ratio, for NaFlexViT: each resized to at most so many patches, packed in batches
of many sizes as timm's NaFlex loader packs them. Every image gets what it would get alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from timm.data.naflex_dataset import NaFlexCollator
from timm.data.naflex_transforms import ResizeToSequence, patchify_image
from torch import Tensor
from torchvision.transforms import Compose

from vitrim.backbones.packed import PARTS, Images, check_takes_packs
from vitrim.backbones.patches import patch_size
from vitrim.data.images import ImageError
from vitrim.data.transforms import ImageTransform, eval_transform
from vitrim.network.model import StagedViT

Packed = dict[str, Tensor]


class ToPatches:
    """Resize an image so that it fills at most `most` patches, as timm does: enlarged too, if it is small."""

    def __init__(self, patch: tuple[int, int], most: int, interpolation: str) -> None:
        self.resize = ResizeToSequence(patch, most, interpolation=interpolation)  # type: ignore[arg-type]  # a pair too

    def __call__(self, image: Image.Image | Tensor) -> Any:
        try:
            return self.resize(image)
        except ValueError as error:  # of its search for a ratio
            raise ImageError(
                f"an image of {getattr(image, 'size', None)} cannot be resized to whole patches ({error})"
            ) from error


def native_transform(model: StagedViT, most: int) -> ImageTransform:
    """From an image to the tensor [C, height, width] of a size of its own.

    Raises:
        ValueError: for a backbone that takes images of one size in a batch, or no number of patches.
    """
    check_takes_packs(model.vit)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise ValueError(
            f"native must be the most patches of an image, a whole number from 1 on, got {most!r}"
        )
    usual = eval_transform(model.preprocess)
    resize = ToPatches(patch_size(model.vit), most, model.preprocess.interpolation)
    return ImageTransform(model.preprocess, Compose([resize]), usual.finish)


class Packing:
    """Images of many sizes as one packed batch; with labels, as a loader's collate function. Picklable:
    loader processes get a copy.
    """

    def __init__(self, model: StagedViT) -> None:
        self.patch, self.channels_last = patch_size(model.vit), bool(model.vit.embeds.channels_last)

    def __call__(self, items: Sequence[tuple[Tensor, Any]]) -> tuple[Packed, Tensor]:
        made = [
            dict(zip(PARTS, patchify_image(image, self.patch, channels_last=self.channels_last), strict=True))
            for image, _ in items
        ]
        longest = max(len(parts["patches"]) for parts in made)
        batch, labels = NaFlexCollator(longest)(
            [(parts, label) for parts, (_, label) in zip(made, items, strict=True)]
        )
        return {name: batch[name] for name in PARTS}, labels

    def images(self, images: Sequence[Tensor]) -> Packed:
        return self([(image, 0) for image in images])[0]


def to_device(batch: Images, device: torch.device) -> Images:
    if isinstance(batch, Tensor):
        return batch.to(device)
    return {name: part.to(device) for name, part in batch.items()}
