"""What a saved model says about itself (the key "vitrim" of its metadata), with bounds, and that it fits the
tensors beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor

from vitrim.bounds import MOST_CLASSES, Format, Methods, Name, Names, Open, Positive, Size, Text

HEADS = ("vit.head.weight", "vit.head_dist.weight")


class Backbone(Open):
    """An `Origin`, the digest of its weights, and whether they are in the file."""

    name: Text
    kind: Name
    image_size: Size
    weights: Text | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    architecture: dict[Name, Any] | None = None
    structure: Name | None = None
    in_chans: Annotated[int, Field(ge=1, le=1024)] | None = None
    patch_size: Size | None = None
    digest: Name
    included: bool


class Channels(Open):
    """A `Preprocess`."""

    image_size: Size
    mean: Annotated[list[FiniteFloat], Field(min_length=1, max_length=1024)]
    std: Annotated[list[Positive], Field(min_length=1, max_length=1024)]
    interpolation: Name = "bicubic"
    crop: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    channels: Annotated[int, Field(ge=1, le=1024)] = 3
    scale: Positive | None = None

    @model_validator(mode="after")
    def fits_its_channels(self) -> Channels:
        if {len(self.mean), len(self.std)} - {1, self.channels}:
            raise ValueError(f"mean and std must hold a number for each of its {self.channels} channels")
        return self


class About(Open):
    """The whole of it."""

    FORMAT: ClassVar[int] = 1
    format: Format
    methods: Methods
    plugins: dict[Name, Text] | None = None
    backbone: Backbone
    num_classes: Annotated[int, Field(ge=0, le=MOST_CLASSES)]
    classes: Names | None
    preprocess: Channels
    video: Text | None = None

    @model_validator(mode="after")
    def fits_its_classes(self) -> About:
        if self.classes is not None and len(self.classes) != self.num_classes:
            raise ValueError(
                f"its {len(self.classes)} class names are not its num_classes, {self.num_classes}"
            )
        return self


class ProgramAbout(Open):
    """What an exported file says, as far as people are shown it."""

    methods: Methods
    backbone: Text
    num_classes: Annotated[int, Field(ge=0, le=MOST_CLASSES)]
    classes: Names | None
    preprocess: Channels
    precision: Name
    raw: bool
    aot: bool = False
    versions: dict[Name, Name] | None = None


def check_head(about: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse a number of classes that is not that of the head in the file, before a head is made."""
    for name in HEADS:
        rows = tensors[name].shape[0] if name in tensors and tensors[name].dim() == 2 else None
        if rows not in (None, about["num_classes"]):
            raise ValueError(
                f"{where} is damaged and cannot be read: its num_classes is {about['num_classes']}, but its "
                f"{name} has {rows} rows"
            )
