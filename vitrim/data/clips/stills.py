"""Clips that need no decoder: folders of pictures, one a frame, and NumPy's .npy files."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy
from PIL import Image

from vitrim.data.clips.containers import check_pixels
from vitrim.data.finding import EXTENSIONS, ending, is_picture
from vitrim.data.images import ImageError, read_rgb


class FrameFolder:
    """The pictures of a folder in the order of the numbers in their names: 2.jpg before 10.jpg."""

    def __init__(self, folder: Path, at_least: int | None) -> None:
        try:
            names = [entry.name for entry in folder.iterdir() if is_frame(entry.name)]
        except OSError as error:
            raise ImageError(f"the folder {folder} cannot be read ({error.strerror})") from error
        if not names:
            raise ImageError(f"the folder {folder} holds no frames ({', '.join(sorted(EXTENSIONS))})")
        self.files = [folder / name for name in sorted(names, key=by_number)]
        self.at_least = at_least
        self.count = len(self.files)

    def read(self, wanted: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        for number in wanted:
            yield number, read_rgb(self.files[number], self.at_least)

    def close(self) -> None:
        pass


class FrameArray:
    """uint8 [frames, height, width, 3 or 1] or [frames, height, width], of which only what is asked for is
    read. Pickled objects are never opened.
    """

    def __init__(self, file: Path) -> None:
        self.name = str(file)
        try:
            self.frames = numpy.load(file, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # a header may hold anything
            raise ImageError(
                f"{file} is damaged, or no array that can be read without unpickling "
                f"({' '.join(str(error).split())[:120]})"
            ) from error
        shape: tuple[int, ...] = getattr(self.frames, "shape", ())
        fits = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
        if not isinstance(self.frames, numpy.ndarray) or self.frames.dtype != numpy.uint8 or not fits:
            what = getattr(self.frames, "dtype", type(self.frames).__name__)
            raise ImageError(
                f"{file} holds {list(shape)} of {what}; clips are [frames, height, width, 3] of uint8"
            )
        if 0 in shape:
            raise ImageError(f"{file} holds no frames: its shape is {list(shape)}")
        check_pixels(self.name, shape[2], shape[1])
        self.count = int(shape[0])

    def read(self, wanted: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        for number in wanted:
            pixels = numpy.array(self.frames[number])  # [height, width, channels], read now
            grey = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
            yield number, Image.fromarray(grey).convert("RGB")

    def close(self) -> None:
        pass


def is_frame(name: str) -> bool:
    """Whether a file in a folder of frames is one of them: a picture, and no array of something else."""
    return is_picture(name) and ending(name) != ".npy"


def by_number(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """What sorts names as people count: frame_2 before frame_10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], name
