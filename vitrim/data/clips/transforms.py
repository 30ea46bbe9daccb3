"""How the frames of a clip become a tensor, for training and for evaluation.

Both look through windows that keep the shape of things: the frame is resized until it covers the model's size
(divided by `crop` where that is below 1), and the window is cut out of it. Images, unless `crop` says
otherwise, are squeezed instead. augment=run changes clips as the settings say:

    none, flip   the centre, and a mirror image half the time
    shift        resized to 1 / 0.875 of the size, a window anywhere, mirrored half the time
    crop, rand   RandomResizedCrop, mirrored; with RandAugment

augment=k400 and augment=ssv2 are the pipelines of these data sets in DyT's release (arXiv 2403.11808): a
shorter side drawn from 1.0 to 1.15 of the size, a window anywhere, mirrored; and rand-m7-n4-mstd0.5-inc1,
then RandomResizedCrop (area 0.08 to 1), never mirrored, as left and right are what is to be told apart.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional

from vitrim.backbones.preprocess import Preprocess
from vitrim.data.clips.indices import frame_indices
from vitrim.data.clips.sampling import ClipSampling
from vitrim.data.transforms import (
    INTERPOLATIONS,
    SHIFTED,
    SMALLEST_CROP,
    ImageTransform,
    eval_transform,
    rand_augment,
)

if TYPE_CHECKING:
    from vitrim.data.clips.reader import ClipReader

Step = Callable[[Any], Any]

JITTER = 1.15  # the longest shorter side of augment=k400, as a share of the size
RAND_AUGMENT = "rand-m7-n4-mstd0.5-inc1"  # four operations of magnitude 7 +- 0.5


@dataclass(frozen=True)
class Covering:
    """Resizes a picture until it covers a size times a factor, or one drawn between two."""

    size: tuple[int, int]
    lowest: float
    highest: float
    interpolation: str

    def __call__(self, image: Image.Image) -> Image.Image:
        factor = random.uniform(self.lowest, self.highest) if self.lowest < self.highest else self.lowest
        height, width = self.size
        scale = max(round(height * factor) / image.height, round(width * factor) / image.width)
        target = [max(height, round(image.height * scale)), max(width, round(image.width * scale))]
        found: Image.Image = functional.resize(image, target, INTERPOLATIONS[self.interpolation])
        return found


@dataclass(frozen=True)
class ClipTransform:
    """One frame to a tensor [C, height, width]; the same randomness changes all frames of a clip alike."""

    steps: transforms.Compose
    at_least: int

    def __call__(self, frame: Image.Image) -> Tensor:
        tensor: Tensor = self.steps(frame)
        return tensor


def clip_transform(
    preprocess: Preprocess,
    augment: str,
    policy: str = RAND_AUGMENT,
    colour_jitter: float = 0.0,
    erasing: float = 0.0,
) -> ClipTransform:
    """Random changes of training clips; `augment` is k400, ssv2, or one of the settings of a run."""
    steps = _windows(preprocess, augment, policy)
    if colour_jitter:
        steps = [*steps, transforms.ColorJitter(colour_jitter, colour_jitter, colour_jitter)]
    steps = [*steps, _to_tensor(preprocess)]
    if erasing:
        steps = [*steps, RandomErasing(erasing, mode="pixel", device="cpu")]
    at_least = math.ceil(max(preprocess.image_size) / preprocess.crop * JITTER)
    if augment in ("crop", "rand", "ssv2"):  # the smallest crop shall have as many pixels as the model sees
        at_least = math.ceil(at_least / SMALLEST_CROP / 2)
    return ClipTransform(transforms.Compose(steps), at_least)


def _windows(preprocess: Preprocess, augment: str, policy: str) -> list[Step]:
    size, mode = list(preprocess.image_size), preprocess.interpolation
    anywhere, mirrored = transforms.RandomCrop(size), transforms.RandomHorizontalFlip()
    resized = transforms.RandomResizedCrop(size, interpolation=INTERPOLATIONS[mode])
    centre: list[Step] = [_covering(preprocess, 1 / preprocess.crop), transforms.CenterCrop(size)]
    share = preprocess.crop if preprocess.crop < 1 else SHIFTED
    windows: dict[str, list[Step]] = {
        "none": centre,
        "flip": [*centre, mirrored],
        "shift": [_covering(preprocess, 1 / share), anywhere, mirrored],
        "crop": [resized, mirrored],
        "rand": [resized, mirrored],
        "k400": [_covering(preprocess, 1.0, JITTER), anywhere, mirrored],
        "ssv2": [rand_augment(preprocess, RAND_AUGMENT), resized],
    }
    chosen = windows[augment]
    return [*chosen, rand_augment(preprocess, policy)] if augment == "rand" else chosen


def _covering(preprocess: Preprocess, lowest: float, highest: float = 0.0) -> Covering:
    return Covering(preprocess.image_size, lowest, highest, preprocess.interpolation)


def _to_tensor(preprocess: Preprocess) -> ImageTransform:
    """Frames that have the model's size already, normalised."""
    if preprocess.channels not in (1, 3):
        raise ValueError(
            f"the model takes {preprocess.channels} channels but frames of videos are red, green and blue; "
            "use a backbone with 1 or 3 input channels"
        )
    return eval_transform(replace(preprocess, crop=1.0))


@dataclass(frozen=True)
class ClipViews:
    """All views of a clip for evaluation, as one tensor [V, C, T, height, width]."""

    preprocess: Preprocess
    cover: Covering
    to_tensor: ImageTransform
    at_least: int

    @staticmethod
    def of(transform: ImageTransform) -> ClipViews:
        """With the window, size and statistics of an image's evaluation."""
        preprocess = transform.preprocess
        factor = 1 / preprocess.crop
        at_least = math.ceil(max(preprocess.image_size) * factor)
        cover = _covering(preprocess, factor)
        return ClipViews(preprocess, cover, _to_tensor(preprocess), at_least)

    def read(self, reader: ClipReader, name: str) -> Tensor:
        sampling = reader.sampling
        found = {}

        def chosen(count: int) -> list[int]:
            views = range(sampling.views)
            found["views"] = [
                frame_indices(count, sampling.frames, sampling.stride, "test", view, sampling.views)
                for view in views
            ]
            return sorted({number for view in found["views"] for number in view})

        frames = reader.frames(name, chosen, self.at_least)
        numbers = sorted({number for view in found["views"] for number in view})
        changed = {
            number: self._crops(frame, sampling.crops) for number, frame in zip(numbers, frames, strict=True)
        }  # each [crops, C, height, width]
        clips = [torch.stack([changed[number] for number in view], 2) for view in found["views"]]
        return torch.cat(clips)  # [views x crops, C, T, height, width]

    def black(self, sampling: ClipSampling) -> Tensor:
        """What stands for a clip that cannot be read."""
        views, channels = sampling.views * sampling.crops, self.preprocess.channels
        return torch.zeros(views, channels, sampling.frames, *self.preprocess.image_size)

    def _crops(self, frame: Image.Image, crops: int) -> Tensor:
        covered = self.cover(frame)
        height, width = self.preprocess.image_size
        down, right = covered.height - height, covered.width - width  # what is left over
        shares = (0.5,) if crops == 1 else (0.0, 0.5, 1.0)
        along = down > right  # of an upright frame the crops go from top to bottom
        windows = []
        for share in shares:
            top = round(down * (share if along else 0.5))
            left = round(right * (0.5 if along else share))
            window = covered.crop((left, top, left + width, top + height))
            windows.append(self.to_tensor(window))
        return torch.stack(windows)  # [crops, C, height, width]
