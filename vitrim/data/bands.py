"""An image of any number of channels, or of other numbers than 8 bits, as its file stores it.

Multispectral and medical images come as arrays: `.npy` files, TIFF files of many bands or pages, RGBA. Which
axis holds the channels and which value counts as 1 is decided where the model is known: `Bands.tensor`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray
from PIL import Image

from vitrim.data.image_errors import ChannelsError, ImageError

if TYPE_CHECKING:
    from torch import Tensor

ONES = {"uint8": 255.0, "uint16": 65535.0}  # the value that counts as 1 where none is stated
TAKEN = "[height, width, channels] or [channels, height, width]"


@dataclass(frozen=True)
class Bands:
    """Values as stored, [height, width], [height, width, channels] or [channels, height, width]."""

    values: NDArray[Any]
    name: str
    """what messages call it"""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), as Pillow's images say it; the channels are taken for the shortest axis."""
        height, width = self._guessed().shape[1:]
        return width, height

    def tobytes(self) -> bytes:
        return self.values.tobytes()

    def planes(self, channels: int) -> NDArray[Any]:
        """The values as [channels, height, width], refused where they are not of so many channels."""
        shape = list(self.values.shape)
        if len(shape) == 2 and channels == 1:
            return self.values[None]
        last, first = len(shape) == 3 and shape[2] == channels, len(shape) == 3 and shape[0] == channels
        if last and first:
            raise ChannelsError(
                f"{self.name} has shape {shape}, whose {channels} channels may be the first or the last axis;"
                " crop or pad it to another width or height"
            )
        if last or first:
            return self.values.transpose(2, 0, 1) if last else self.values
        if len(shape) not in (2, 3):
            raise ChannelsError(f"{self.name} has shape {shape}; an image is {TAKEN}")
        raise ChannelsError(
            f"{self.name} has shape {shape}, neither whose first nor whose last axis is the {channels} "
            "channels that the model takes; choose such images, or train with --in_chans"
        )

    def tensor(self, channels: int, scale: float | None) -> Tensor:
        """float32 [channels, height, width], 1 for the value `scale`; not given: 255 of uint8, 65535 of
        uint16, and floats from 0 to 1 as they are.
        """
        import torch

        planes = self.planes(channels)
        kind = planes.dtype
        if kind.kind not in "uif":
            raise ChannelsError(f"{self.name} holds {kind}; an image holds whole numbers or floats")
        if kind.kind == "f" and not numpy.isfinite(planes).all():
            raise ImageError(f"{self.name} holds values that are no numbers (nan or inf); fill them first")
        if scale is None:
            scale = self._usual_scale(planes)
        return torch.from_numpy(numpy.ascontiguousarray(planes, dtype=numpy.float32)) / scale

    def is_picture(self, scale: float | None) -> bool:
        """Whether a model that sees RGB or its luminance sees this as a picture: 8 bits, grey or RGB."""
        shape = self.values.shape
        coloured = len(shape) == 3 and bool({1, 3} & {shape[0], shape[2]})
        return self.values.dtype == numpy.uint8 and scale is None and (len(shape) == 2 or coloured)

    def picture(self) -> Image.Image:
        """The same as a picture of Pillow's: 8 bits, grey or RGB."""
        if not self.is_picture(None):
            raise ChannelsError(
                f"{self.name} holds {self.values.dtype} of shape {list(self.values.shape)}, which is no "
                "picture of 8 bits, grey or RGB"
            )
        shape = self.values.shape
        grey = len(shape) == 2 or 1 in (shape[0], shape[2])
        planes = self.planes(1 if grey else 3)
        return Image.fromarray(numpy.ascontiguousarray(planes[0] if grey else planes.transpose(1, 2, 0)))

    def shown(self) -> Image.Image:
        """Something to look at: the first three channels (or the first alone), each from its own lowest value
        to its highest.
        """
        planes = numpy.nan_to_num(self._guessed().astype(numpy.float64), posinf=0.0, neginf=0.0)
        planes = planes[:3] if len(planes) >= 3 else planes[:1]
        low, high = planes.min((1, 2), keepdims=True), planes.max((1, 2), keepdims=True)
        levels = ((planes - low) / numpy.where(high > low, high - low, 1) * 255).astype(numpy.uint8)
        return Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)).convert("RGB")

    def _usual_scale(self, planes: NDArray[Any]) -> float:
        kind = planes.dtype
        if kind.name in ONES:
            return ONES[kind.name]
        low, high = planes.min(), planes.max()
        if kind.kind == "f" and 0 <= low <= high <= 1:
            return 1.0
        raise ChannelsError(
            f"{self.name} holds {kind} from {low:g} to {high:g}, and which value counts as 1 is not stated; "
            "train with --full_scale NUMBER (1 takes the values as they are)"
        )

    def _guessed(self) -> NDArray[Any]:
        """[channels, height, width] for a shape that nothing more is known about."""
        if self.values.ndim != 3:
            if self.values.ndim != 2:
                raise ChannelsError(f"{self.name} has shape {list(self.values.shape)}; an image is {TAKEN}")
            return self.values[None]
        first = self.values.shape[0] < self.values.shape[2]
        return self.values if first else self.values.transpose(2, 0, 1)
