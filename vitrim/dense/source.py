"""What a segmentation data set is in memory: a class table, and splits of pictures with a mask each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vitrim.data.images import ImageError, read_rgb
from vitrim.dense.classes import ClassTable
from vitrim.dense.masks import Labels

JointTransform = Callable[[Image.Image, Labels], tuple[Tensor, Tensor]]


class MaskReader(Protocol):
    """Reads what stands for a mask: a path, or outlines. Must be picklable: loader processes get a copy."""

    def __call__(self, mask: Any, /) -> Labels: ...


class DenseSplit(Dataset[tuple[Image.Image, Labels]]):
    """`split[i]` is (PIL RGB image, mask uint8 [height, width]) of the same size."""

    def __init__(self, images: Sequence[Path], masks: Sequence[Any], read_mask: MaskReader) -> None:
        if len(images) != len(masks):
            raise ValueError(f"a split needs one mask per image but has {len(images)} and {len(masks)}")
        self.images, self.masks, self.read_mask = tuple(images), tuple(masks), read_mask

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, Labels]:
        image, labels = read_rgb(self.images[index]), self.read_mask(self.masks[index])
        if image.size != labels.shape[::-1]:
            raise ImageError(
                f"{self.images[index]} has {image.size[0]} x {image.size[1]} pixels, but its mask "
                f"{labels.shape[1]} x {labels.shape[0]}; a mask needs a value for every pixel"
            )
        return image, labels

    @property
    def names(self) -> tuple[str, ...]:
        """Where each image came from."""
        return tuple(map(str, self.images))

    def with_transform(self, transform: JointTransform) -> TransformedMasks:
        return TransformedMasks(self, transform)

    def part(self, places: Sequence[int]) -> DenseSplit:
        return DenseSplit([self.images[i] for i in places], [self.masks[i] for i in places], self.read_mask)


class TransformedMasks(Dataset[tuple[Tensor, Tensor]]):
    """A split whose pictures and masks go through a transform together: `[i]` is (tensor, labels)."""

    def __init__(self, split: DenseSplit, transform: JointTransform) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(*self.split[index])


@dataclass(frozen=True)
class DenseData:
    """An opened segmentation data set. `spec` opens the same splits again."""

    spec: str
    table: ClassTable
    splits: Mapping[str, DenseSplit]
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> DenseSplit:
        """`splits[name]`, or a sentence that lists the splits there are."""
        if name not in self.splits:
            raise ValueError(f"{self.spec} has no {name!r} split; it has: {', '.join(self.splits)}")
        return self.splits[name]


def with_trainval(splits: Mapping[str, DenseSplit]) -> dict[str, DenseSplit]:
    """The splits in their usual order, with trainval = train + val where there is none."""
    found = {name: split for name, split in splits.items() if len(split)}
    train, val = found.get("train"), found.get("val")
    if "trainval" not in found and train is not None and val is not None:
        images, masks = train.images + val.images, train.masks + val.masks
        found["trainval"] = DenseSplit(images, masks, train.read_mask)
    return {name: found[name] for name in ("train", "val", "trainval", "test") if name in found}
