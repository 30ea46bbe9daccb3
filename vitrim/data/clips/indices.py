"""Which frames of a video make a clip: one pure function, for training and for every view of a test.

Two samplings, as DyT's video pipeline has them (arXiv 2403.11808, its release at commit d1744f0):

stride > 0, dense:     start, start + stride, ..., start + (T - 1) stride.
    train: start uniform in 0 .. n - (T - 1) stride - 1. test: V starts evenly spread, the first at 0, the
    last so that the clip ends with the video; one view starts in the middle.
stride = 0, segments:  one frame of each of T equal parts, seg = (n - 1) / T frames long.
    train: uniform in round(seg i) .. round(seg (i + 1)), both included. test: the middle of these two.

A video too short for its clip repeats a frame at the end: in test its last one, in training the last that the
stride reaches. `round` is Python's, halves to even.
"""

from itertools import pairwise
from typing import Protocol

MODES = ("train", "test")


class Drawing(Protocol):
    """What draws whole numbers between two others, both included: `random.Random`."""

    def randint(self, a: int, b: int, /) -> int: ...


def frame_indices(
    frames: int,
    length: int,
    stride: int,
    mode: str = "test",
    view: int = 0,
    views: int = 1,
    rng: Drawing | None = None,
) -> tuple[int, ...]:
    """`length` frame numbers of a video of so many `frames`, never going back.

    `view` of `views` counts temporal views and is for test alone; `rng` is for training alone.
    """
    if frames < 1 or length < 1 or stride < 0:
        raise ValueError(
            f"a clip of {length} frames with stride {stride} of {frames} frames cannot be: frames and length "
            "are at least 1, stride at least 0"
        )
    if mode not in MODES or (mode == "train") != (rng is not None):
        raise ValueError(f"mode is train, with a generator, or test, without one; got {mode!r} and {rng!r}")
    if not 0 <= view < views:
        raise ValueError(f"view must be at least 0 and below views, got {view} of {views}")
    if stride == 0:
        return _segments(frames, length, rng)
    return _dense(frames, length, stride, view, views) if rng is None else _drawn(frames, length, stride, rng)


def _segments(frames: int, length: int, rng: Drawing | None) -> tuple[int, ...]:
    segment = (frames - 1) / length
    edges = [round(segment * part) for part in range(length + 1)]
    if rng is None:
        return tuple((low + high) // 2 for low, high in pairwise(edges))
    return tuple(rng.randint(low, high) for low, high in pairwise(edges))


def _dense(frames: int, length: int, stride: int, view: int, views: int) -> tuple[int, ...]:
    slide = max(0, frames - 1 - (length - 1) * stride)  # the last possible start
    start = slide // 2 if views == 1 else round(slide / (views - 1) * view)
    return tuple(min(start + step * stride, frames - 1) for step in range(length))


def _drawn(frames: int, length: int, stride: int, rng: Drawing) -> tuple[int, ...]:
    last = frames - 1 - (length - 1) * stride  # the last possible start
    if last <= 0:
        inside = (frames - 1) // stride
        return tuple(min(step, inside) * stride for step in range(length))
    start = rng.randint(0, last)
    return tuple(start + step * stride for step in range(length))
