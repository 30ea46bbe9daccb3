"""Images larger than the model's: windows that cover every pixel, and the mean of what they say about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vitrim.checks import check_positive


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along one side: every `stride` pixels, the last one moved back to end with the
    image. Every pixel is in at least one.

    >>> starts(500, 224, 150)
    [0, 150, 276]
    """
    if length < window:
        raise ValueError(
            f"a side of {length} pixels is shorter than a window of {window}; make the image larger first"
        )
    if stride > window:
        raise ValueError(f"a stride of {stride} pixels leaves gaps between windows of {window}")
    found = list(range(0, length - window, stride))
    return [*found, length - window]


def windows(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> list[tuple[int, int]]:
    """The upper left corners (row, column) of all windows of an image of (height, width)."""
    rows = starts(size[0], window[0], stride[0])
    columns = starts(size[1], window[1], stride[1])
    return [(row, column) for row in rows for column in columns]


def slide(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    window: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    batch_size: int = 16,
) -> Tensor:
    """Logits of images of any size that is at least the window's, as the mean over the windows a pixel is in.

    Args:
        model: images [B, channels, height, width] to logits [B, K, height, width].
        window: (height, width) of a window, or its side.
        stride: pixels from one window to the next; None: two thirds of the window.
        batch_size: windows at a time.
    """
    window = _pair("window", window)
    stride = (max(1, window[0] * 2 // 3), max(1, window[1] * 2 // 3)) if stride is None else stride
    stride = _pair("stride", stride)
    check_positive("slide", "batch_size", batch_size)
    height, width = images.shape[-2:]
    corners = windows((height, width), window, stride)
    if len(corners) == 1:
        return model(images)
    total: Tensor | None = None
    count = images.new_zeros(height, width)
    for image, row, column, logits in _decoded(model, images, corners, window, batch_size):
        if total is None:
            total = logits.new_zeros(images.shape[0], logits.shape[0], height, width)
        total[image, :, row : row + window[0], column : column + window[1]] += logits
    for row, column in corners:
        count[row : row + window[0], column : column + window[1]] += 1
    assert total is not None  # there is at least one window
    return total / count.to(total.dtype)


def _decoded(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    corners: list[tuple[int, int]],
    window: tuple[int, int],
    batch_size: int,
) -> Iterator[tuple[int, int, int, Tensor]]:
    """Image, row and column of each window, with its logits [K, height, width]."""
    places = [(image, *corner) for image in range(images.shape[0]) for corner in corners]
    for begin in range(0, len(places), batch_size):
        part = places[begin : begin + batch_size]
        cut = [images[i, :, row : row + window[0], column : column + window[1]] for i, row, column in part]
        for place, logits in zip(part, model(torch.stack(cut)), strict=True):
            yield *place, logits


def _pair(name: str, given: int | tuple[int, int]) -> tuple[int, int]:
    pair = (given, given) if isinstance(given, int) else tuple(given)
    if len(pair) != 2:
        raise ValueError(f"slide: {name} must be pixels or (height, width), got {given!r}")
    for side in pair:
        check_positive("slide", name, side)
    return pair[0], pair[1]
