"""From a PIL image to the normalised tensor a model expects, for evaluation and for training.

Evaluation: with `preprocess.crop == 1.0` the whole image is resized straight to the model's size (the VTAB
protocol); below 1.0 the shorter side is resized to size / crop and the centre is cut out, as timm does.
Training with "none" and "flip" sees images through the same window: what is learned is what is tested.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image
from timm.data.random_erasing import RandomErasing
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from vitrim.backbones.preprocess import Preprocess
from vitrim.data.choices import choose

Step = Callable[[Any], Any]

INTERPOLATIONS = {mode.value: mode for mode in InterpolationMode}
SMALLEST_CROP = math.sqrt(0.08 * 3 / 4)  # shorter side of RandomResizedCrop's smallest, as a share
RAND_AUGMENT = "rand-m9-mstd0.5-inc1"  # two operations of magnitude 9 +- 0.5, as DeiT
SHIFTED = 0.875  # the window that "shift" cuts out where the model looks at whole images, 224 of 256


@dataclass(frozen=True)
class ImageTransform:
    """Any PIL image to a float tensor [channels, height, width]."""

    steps: transforms.Compose
    at_least: int | None = None  # how many pixels a side it needs: see read_image
    preprocess: Preprocess | None = None  # what it was made for

    def __call__(self, image: Image.Image) -> Tensor:
        tensor: Tensor = self.steps(image if image.mode == "RGB" else image.convert("RGB"))
        return tensor


def eval_transform(preprocess: Preprocess) -> ImageTransform:
    """The same tensor for the same image, every time."""
    at_least = _longest(preprocess)
    return ImageTransform(
        transforms.Compose([*_window(preprocess), *_to_tensor(preprocess)]), at_least, preprocess
    )


def train_transform(
    preprocess: Preprocess,
    augment: str = "none",
    policy: str = RAND_AUGMENT,
    colour_jitter: float = 0.0,
    erasing: float = 0.0,
) -> ImageTransform:
    """The same image anew each time.

    Args:
        preprocess: what the model expects.
        augment: none (as in evaluation), flip, shift (a random window of the resized image, flip), crop
            (random resized crop, flip), rand (and RandAugment).
        policy: timm's text for the RandAugment of "rand".
        colour_jitter: largest change of brightness, contrast and saturation, as a share.
        erasing: chance to erase a rectangle.
    """
    steps = choose("augmentation", augment, AUGMENTATIONS)(preprocess)
    if augment == "rand":
        steps = [*steps, rand_augment(preprocess, policy)]
    if colour_jitter:
        steps = [*steps, transforms.ColorJitter(colour_jitter, colour_jitter, colour_jitter)]
    steps = [*steps, *_to_tensor(preprocess)]
    if erasing:
        steps = [*steps, RandomErasing(erasing, mode="pixel", device="cpu")]
    at_least = _longest(preprocess)
    if augment in ("crop", "rand"):  # the smallest crop shall still have as many pixels as the model sees
        at_least = math.ceil(at_least / SMALLEST_CROP / 2)  # read_image keeps twice what is asked for
    return ImageTransform(transforms.Compose(steps), at_least, preprocess)


def _window(preprocess: Preprocess) -> list[Step]:
    """Resize, and where crop < 1 cut out the centre."""
    mode = _interpolation(preprocess)
    if preprocess.crop == 1.0:
        return [transforms.Resize(list(preprocess.image_size), mode)]
    steps: list[Step] = create_transform(
        (3, *preprocess.image_size), interpolation=mode.value, crop_pct=preprocess.crop
    ).transforms
    return steps[:2]  # resize and crop; then come to tensor and normalise


def _flipped(preprocess: Preprocess) -> list[Step]:
    return [*_window(preprocess), transforms.RandomHorizontalFlip()]


def _random_crop(preprocess: Preprocess) -> list[Step]:
    crop = transforms.RandomResizedCrop(list(preprocess.image_size), interpolation=_interpolation(preprocess))
    return [crop, transforms.RandomHorizontalFlip()]


def _shifted(preprocess: Preprocess) -> list[Step]:
    share = preprocess.crop if preprocess.crop < 1 else SHIFTED
    size = [round(side / share) for side in preprocess.image_size]
    resize = transforms.Resize(min(size) if size[0] == size[1] else size, _interpolation(preprocess))
    window = transforms.RandomCrop(list(preprocess.image_size))
    return [resize, window, transforms.RandomHorizontalFlip()]


def rand_augment(preprocess: Preprocess, policy: str) -> Step:
    """timm's RandAugment, which comes after its random crop and flip."""
    try:
        augment = create_transform(
            (3, *preprocess.image_size),
            is_training=True,
            auto_augment=policy,
            interpolation=_interpolation(preprocess).value,
            mean=_per_channel(preprocess.mean, 3),
            separate=True,
            hflip=0.0,
        )[1].transforms[0]
    except (AssertionError, KeyError, ValueError):
        raise ValueError(f"timm cannot read policy {policy!r}; write it like {RAND_AUGMENT}") from None
    for operation in augment.ops:
        if operation.name.startswith("Posterize"):
            operation.level_fn = partial(_at_least_one_bit, operation.level_fn)
    found: Step = augment
    return found


def _at_least_one_bit(level: Callable[..., tuple[int]], *arguments: Any) -> tuple[int]:
    """timm's strongest posterising keeps no bit at all, which newer Pillow refuses."""
    return (max(1, level(*arguments)[0]),)


AUGMENTATIONS: dict[str, Callable[[Preprocess], list[Step]]] = {
    "none": _window,
    "flip": _flipped,
    "shift": _shifted,
    "crop": _random_crop,
    "rand": _random_crop,
}


def _to_tensor(preprocess: Preprocess) -> list[Step]:
    """0 to 255 becomes 0 to 1, then mean and std. One channel is the luminance of RGB."""
    if preprocess.channels not in (1, 3):
        raise ValueError(
            f"the model takes {preprocess.channels} channels but pictures on disk are read as 1 or 3; "
            "give it tensors of your own, or use a backbone with 1 or 3 input channels"
        )
    grey: list[Step] = [transforms.Grayscale(1)] if preprocess.channels == 1 else []
    mean = _per_channel(preprocess.mean, preprocess.channels)
    std = _per_channel(preprocess.std, preprocess.channels)
    return [*grey, transforms.ToTensor(), transforms.Normalize(mean, std)]


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One value per channel. timm keeps the three of RGB with models made grey; they are averaged."""
    if len(values) == channels:
        return tuple(values)
    if len(values) == 1 or channels == 1:
        return (sum(values) / len(values),) * channels
    raise ValueError(f"mean and std have {len(values)} values for {channels} channels; give one per channel")


def _longest(preprocess: Preprocess) -> int:
    """The longer side of the window before the centre is cut out."""
    if not 0 < preprocess.crop <= 1:
        raise ValueError(f"crop must be above 0 and at most 1, the share kept, but is {preprocess.crop}")
    return math.floor(max(preprocess.image_size) / preprocess.crop)


def _interpolation(preprocess: Preprocess) -> InterpolationMode:
    return choose("interpolation", preprocess.interpolation, INTERPOLATIONS)
