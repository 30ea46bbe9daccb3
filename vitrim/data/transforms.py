"""From a PIL image, or the channels of an array, to the normalised tensor a model expects, for evaluation and
for training.

Evaluation: with `preprocess.crop == 1.0` the whole image is resized straight to the model's size (the VTAB
protocol); below 1.0 the shorter side is resized to size / crop and the centre is cut out, as timm does.
Training with "none" and "flip" sees images through the same window: what is learned is what is tested.
Arrays and images of other than 1 or 3 channels are resized, cropped and flipped as tensors; what changes
colours is for pictures alone, and refused there.
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
from torchvision.transforms import InterpolationMode, functional

from vitrim.backbones.preprocess import Preprocess
from vitrim.data.band_files import picture_bands
from vitrim.data.bands import Bands
from vitrim.data.choices import choose
from vitrim.data.images import AS_RGB, ChannelsError

Step = Callable[[Any], Any]

INTERPOLATIONS = {mode.value: mode for mode in InterpolationMode}
SMALLEST_CROP = math.sqrt(0.08 * 3 / 4)  # shorter side of RandomResizedCrop's smallest, as a share
RAND_AUGMENT = "rand-m9-mstd0.5-inc1"  # two operations of magnitude 9 +- 0.5, as DeiT
COLOURS_OF_PICTURES = (
    "augment=rand and colour_jitter change the colours of 8-bit grey and RGB pictures, which these have not; "
    "choose augment=none, flip, shift or crop, and colour_jitter=0"
)
SHIFTED = 0.875  # the window that "shift" cuts out where the model looks at whole images, 224 of 256


@dataclass(frozen=True)
class ImageTransform:
    """Any PIL image, or Bands, to a float tensor [channels, height, width]."""

    preprocess: Preprocess
    geometry: transforms.Compose  # of pictures and tensors alike
    finish: transforms.Compose  # of tensors
    colours: transforms.Compose | None = None  # of pictures alone
    at_least: int | None = None  # how many pixels a side it needs: see read_image

    @property
    def wants(self) -> tuple[Any, ...]:
        """What a reader is told besides the name: how large, and of how many channels if not as RGB."""
        channels = self.preprocess.channels
        return (self.at_least,) if channels in AS_RGB else (self.at_least, channels)

    def __call__(self, image: Image.Image | Bands) -> Tensor:
        channels, scale = self.preprocess.channels, self.preprocess.scale
        if isinstance(image, Image.Image) and channels not in AS_RGB:
            image = picture_bands(image, "the picture")
        if isinstance(image, Bands) and (channels not in AS_RGB or not image.is_picture(scale)):
            if self.colours is not None:
                raise ChannelsError(f"{image.name} holds {image.values.dtype}: {COLOURS_OF_PICTURES}")
            bands: Tensor = self.finish(self.geometry(image.tensor(channels, scale)))
            return bands
        picture = image.picture() if isinstance(image, Bands) else image
        tensor: Tensor = self.steps(picture if picture.mode == "RGB" else picture.convert("RGB"))
        return tensor

    def steps(self, image: Image.Image) -> Tensor:
        """An RGB picture's way through all of it."""
        image = self.geometry(image)
        if self.colours is not None:
            image = self.colours(image)
        if self.preprocess.channels == 1:  # the luminance of RGB
            image = functional.rgb_to_grayscale(image)
        tensor: Tensor = self.finish(functional.to_tensor(image))
        return tensor


def eval_transform(preprocess: Preprocess) -> ImageTransform:
    """The same tensor for the same image, every time."""
    at_least = _longest(preprocess)
    window = transforms.Compose(_window(preprocess))
    return ImageTransform(preprocess, window, transforms.Compose([_normalise(preprocess)]), at_least=at_least)


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
    geometry = choose("augmentation", augment, AUGMENTATIONS)(preprocess)
    if (augment == "rand" or colour_jitter) and preprocess.channels not in AS_RGB:
        raise ValueError(f"the model takes {preprocess.channels} channels: {COLOURS_OF_PICTURES}")
    colours: list[Step] = [rand_augment(preprocess, policy)] if augment == "rand" else []
    if colour_jitter:
        colours.append(transforms.ColorJitter(colour_jitter, colour_jitter, colour_jitter))
    finish: list[Step] = [_normalise(preprocess)]
    if erasing:
        finish.append(RandomErasing(erasing, mode="pixel", device="cpu"))
    at_least = _longest(preprocess)
    if augment in ("crop", "rand"):  # the smallest crop shall still have as many pixels as the model sees
        at_least = math.ceil(at_least / SMALLEST_CROP / 2)  # read_image keeps twice what is asked for
    return ImageTransform(
        preprocess,
        transforms.Compose(geometry),
        transforms.Compose(finish),
        transforms.Compose(colours) if colours else None,
        at_least,
    )


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


def _normalise(preprocess: Preprocess) -> Step:
    """Mean and std, of pixels from 0 to 1."""
    mean = _per_channel(preprocess.mean, preprocess.channels)
    std = _per_channel(preprocess.std, preprocess.channels)
    return transforms.Normalize(mean, std)


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
