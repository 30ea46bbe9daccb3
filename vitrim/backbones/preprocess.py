"""What a backbone expects of its images. Saved with every model, because wrong mean and size are the
commonest silent error."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from vitrim.backbones.geometry import image_size, input_channels
from vitrim.backbones.support import TimmModule


@dataclass(frozen=True)
class Preprocess:
    """How pixels become the backbone's input.

    Attributes:
        image_size: (height, width) in pixels.
        mean, std: per channel, for pixels in 0..1.
        interpolation: "bicubic" or "bilinear".
        crop: share of the resized image that a centre crop keeps; 1.0 resizes straight to `image_size`.
        channels: colour channels the patch embedding takes.
        scale: the value of an array's pixel that counts as 1; not stated: 255 of uint8, 65535 of uint16.
    """

    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop: float = 1.0
    channels: int = 3
    scale: float | None = None

    @staticmethod
    def of(vit: TimmModule) -> "Preprocess":
        """Read from the model's pretrained configuration; ImageNet's plain 0.5 where it has none (as timm's
        ViTs do)."""
        config = getattr(vit, "pretrained_cfg", None) or {}
        channels = input_channels(vit)
        return Preprocess(
            image_size=image_size(vit),
            mean=_per_channel(config.get("mean"), channels),
            std=_per_channel(config.get("std"), channels),
            interpolation=config.get("interpolation") or "bicubic",
            channels=channels,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        values = asdict(self)
        if self.scale is None:  # as it was before there was one
            del values["scale"]
        return values

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Preprocess":
        """The inverse of `to_json`; other keys are left alone."""
        lists = {name: tuple(values[name]) for name in ("image_size", "mean", "std")}
        known = {name: values[name] for name in Preprocess.__dataclass_fields__ if name in values}
        return Preprocess(**{**known, **lists})


NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,), (0.5,)),
    "none": ((0.0,), (1.0,)),
}


def as_asked(
    preprocess: Preprocess, normalise: str, interpolation: str, crop: float, scale: float | None = None
) -> Preprocess:
    """What a run was told to do with images instead; "checkpoint" leaves mean and std, or the interpolation,
    as the backbone has it. Pixels to be "measured" are left from 0 to 1 for that, and so are those whose mean
    and std are "given".
    """
    found = replace(preprocess, crop=crop, scale=scale)
    if normalise in ("measured", "given"):
        normalise = "none"
    if normalise != "checkpoint":
        mean, std = NORMALISATIONS[normalise]
        channels = preprocess.channels
        found = replace(found, mean=_per_channel(mean, channels), std=_per_channel(std, channels))
    return found if interpolation == "checkpoint" else replace(found, interpolation=interpolation)


def _per_channel(values: Any, channels: int) -> tuple[float, ...]:
    given = tuple(values) if values else (0.5,)
    return given if len(given) == channels else (sum(given) / len(given),) * channels
