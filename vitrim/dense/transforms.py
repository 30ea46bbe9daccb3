"""Changes of a picture and its mask together. Masks are cut, turned round and resized by taking single
pixels, never by mixing them, so that no class appears that was not there.

    fit    the whole picture at the model's size, whatever its shape
    flip   the same, left and right exchanged at random
    crop   resized so that the window's size is 0.5 to 2 times covered, a random window cut out, flip; what a
           small picture does not fill has no class
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional as F

from vitrim.backbones.preprocess import Preprocess
from vitrim.checks import check_one_of
from vitrim.data.transforms import INTERPOLATIONS
from vitrim.dense.classes import IGNORE
from vitrim.dense.masks import Labels

CHANGES = ("fit", "flip", "crop")
SCALES = (0.5, 2.0)
TRIES, MOST_OF_ONE = 10, 0.75  # a crop of which one class has more is drawn again


@dataclass(frozen=True)
class JointChange:
    """A picture and its mask to normalised pixels [channels, height, width] and labels int64 [height,
    width]."""

    preprocess: Preprocess
    change: str = "fit"
    colour_jitter: float = 0.0

    def __post_init__(self) -> None:
        check_one_of("segmentation", "augment", self.change, CHANGES)

    def __call__(self, image: Image.Image, labels: Labels) -> tuple[Tensor, Tensor]:
        mask = Image.fromarray(labels)
        height, width = self.preprocess.image_size
        if self.change == "crop":
            image, mask = self._cut(image, mask)
        else:
            image, mask = together_resized(image, mask, (height, width), self.preprocess.interpolation)
        if self.change != "fit" and random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.colour_jitter:
            strength = self.colour_jitter
            image = transforms.ColorJitter(strength, strength, strength)(image)
        pixels = normalised(image, self.preprocess)
        found = torch.from_numpy(numpy.array(mask, dtype=numpy.int64))  # [height, width]
        if self.change == "crop":  # beyond a small picture: the mean colour, and no class
            missing = (0, width - pixels.shape[2], 0, height - pixels.shape[1])
            pixels = torch.nn.functional.pad(pixels, missing)
            found = torch.nn.functional.pad(found, missing, value=IGNORE)
        return pixels, found

    def _cut(self, image: Image.Image, mask: Image.Image) -> tuple[Image.Image, Image.Image]:
        """A random window of a randomly resized picture, not of one class alone where that can be had."""
        height, width = self.preprocess.image_size
        cover = max(height / image.height, width / image.width)
        scale = cover * random.uniform(*SCALES)
        size = max(1, round(image.height * scale)), max(1, round(image.width * scale))
        image, mask = together_resized(image, mask, size, self.preprocess.interpolation)
        for attempt in range(TRIES):
            row = random.randint(0, max(0, image.height - height))
            column = random.randint(0, max(0, image.width - width))
            box = (column, row, min(column + width, image.width), min(row + height, image.height))
            counts = mask.crop(box).histogram()[:IGNORE]
            if attempt == TRIES - 1 or max(counts) <= MOST_OF_ONE * max(sum(counts), 1):
                break
        return image.crop(box), mask.crop(box)


def together_resized(
    image: Image.Image, mask: Image.Image, size: tuple[int, int], interpolation: str
) -> tuple[Image.Image, Image.Image]:
    """Both at (height, width): the picture smoothly, the mask by its nearest pixels."""
    resized = F.resize(image, list(size), INTERPOLATIONS[interpolation])
    return resized, F.resize(mask, list(size), INTERPOLATIONS["nearest"])


def normalised(image: Image.Image, preprocess: Preprocess) -> Tensor:
    """Pixels as the backbone expects them: [channels, height, width]."""
    if preprocess.channels not in (1, 3):
        raise ValueError(
            f"the model takes {preprocess.channels} channels but pictures on disk are read as 1 or 3; give "
            "it tensors of your own"
        )
    image = image.convert("L") if preprocess.channels == 1 else image
    return F.normalize(F.to_tensor(image), list(preprocess.mean), list(preprocess.std))


def covering(size: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a picture resized, in its own proportions, until it just covers the window: exact
    on the side that binds."""
    height, width = size
    if window[0] * width >= window[1] * height:  # the height binds
        return window[0], max(window[1], round(width * window[0] / height))
    return max(window[0], round(height * window[1] / width)), window[1]
