"""Clips drawn by formula, so small that a test makes them anew: every frame says its number, or a bright
square moves over a dark ground in one of four directions at one of two speeds (8 classes, none in one frame).
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 32
STEP = 20  # levels between the grey of one frame and of the next
CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9", ".avi": "mpeg4", ".mkv": "libx264"}
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))  # of rows and columns


def numbered(count: int = 12, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """Frame i is grey of level 20 i: [count, height, width, 3]."""
    levels = np.arange(count, dtype=np.uint8) * STEP
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def number_of(frame: Image.Image) -> int:
    """Which of the frames of `numbered` this is, after whatever compression."""
    middle = frame.getpixel((frame.width // 2, frame.height // 2))
    return round(middle[0] / STEP)


def moving_square(label: int, start: int, count: int = 8) -> np.ndarray:
    """[count, SIDE, SIDE, 3]: a square of 8 pixels, direction label // 2, by 2 or 6 pixels a frame, that
    comes in again at the other side.
    """
    rows, columns = DIRECTIONS[label // 2]
    speed = 2 + 4 * (label % 2)
    frames = np.full((count, SIDE, SIDE, 3), 40, np.uint8)
    for index in range(count):
        row = (start + rows * speed * index) + np.arange(8)
        column = (3 * start + columns * speed * index) + np.arange(8)
        frames[index, row[:, None] % SIDE, column[None] % SIDE] = 220
    return frames


def write_video(
    file: Path,
    frames: np.ndarray,
    times: Sequence[int] | None = None,
    codec: str | None = None,
    **options: str,
) -> Path:
    """Encode frames by PyAV, a keyframe every 5; `times` are milliseconds, for an unsteady rate."""
    import av

    with av.open(str(file), "w", options=options) as container:
        stream: Any = container.add_stream(codec or CODECS[file.suffix], rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.gop_size = "yuv420p", 5
        stream.codec_context.thread_count = 1  # an encoder's threads would be missed in forked processes
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file


def write_frames(folder: Path, frames: np.ndarray) -> Path:
    """One PNG a frame, numbered without leading zeros."""
    folder.mkdir(parents=True)
    for index, pixels in enumerate(frames):
        Image.fromarray(pixels).save(folder / f"frame{index}.png")
    return folder
