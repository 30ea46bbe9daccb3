"""The frames of one clip, whatever it is stored as, or one sentence that says why not."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from vitrim.data.clips.containers import MiscountedError, VideoFile
from vitrim.data.clips.indices import frame_indices
from vitrim.data.clips.sampling import ClipSampling
from vitrim.data.clips.stills import FrameArray, FrameFolder
from vitrim.data.finding import NotAFileError, open_regular
from vitrim.data.images import ImageError, MissingImageError
from vitrim.data.source import ReadsClips, Split

if TYPE_CHECKING:
    from vitrim.data.clips.samples import ClipSamples

Choice = Callable[[int], Sequence[int]]
"""Frame numbers for a number of frames. The same each time it is asked."""


class Video(Protocol):
    """Something open with `count` frames; `read` takes ascending numbers."""

    count: int

    def read(self, wanted: Sequence[int]) -> Iterator[tuple[int, Image.Image]]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class ClipReader(ReadsClips):
    """Opens the clip of a path: a video file, a folder of frames, or a .npy file."""

    sampling: ClipSampling

    def samples(self, split: Split, transform: Callable[[Any], Any]) -> ClipSamples:
        from vitrim.data.clips.samples import clip_samples  # imports timm, as every transform does

        return clip_samples(self, split, transform)

    def __call__(self, name: str, at_least: int | None = None, _channels: int = 3, /) -> Image.Image:
        """One picture that stands for the clip: the middle frame of its middle view."""
        return self.frames(name, lambda count: [self._middle(count)], at_least)[0]

    def frames(self, name: str, choice: Choice, at_least: int | None = None) -> list[Image.Image]:
        """The chosen frames as upright RGB pictures of one size; `at_least` as for `read_image`."""
        with _opened(name, at_least) as video:
            numbers = choice(video.count)
            try:
                found = dict(video.read(sorted(set(numbers))))
            except MiscountedError:
                assert isinstance(video, VideoFile)
                video.count_by_decoding()
                numbers = choice(video.count)
                found = dict(video.read(sorted(set(numbers))))
        missing = [number for number in numbers if number not in found]
        if missing:
            raise ImageError(f"{name} is damaged: its frame {missing[0]} cannot be decoded")
        sizes = {frame.size for frame in found.values()}
        if len(sizes) > 1:
            raise _changing(name, sizes)
        return [found[number] for number in numbers]

    def every_frame(self, name: str) -> Iterator[Image.Image]:
        """All of them in order: for looking a clip over."""
        with _opened(name, None) as video:
            if isinstance(video, VideoFile):
                video.in_order = True
            size = None
            for _, frame in video.read(range(video.count)):
                if frame.size != (size or frame.size):
                    raise _changing(name, {frame.size, size or frame.size})
                size = frame.size
                yield frame

    def _middle(self, count: int) -> int:
        chosen = frame_indices(count, self.sampling.frames, self.sampling.stride)
        return chosen[(len(chosen) - 1) // 2]


def _changing(name: str, sizes: set[tuple[int, int]]) -> ImageError:
    shown = " and ".join(f"{width} x {height}" for width, height in sorted(sizes)[:2])
    return ImageError(f"{name} has frames of several sizes, {shown}; a clip has one")


@contextmanager
def _opened(name: str, at_least: int | None) -> Iterator[Video]:
    path = Path(name)
    if path.is_dir():
        yield FrameFolder(path, at_least)
        return
    try:
        stream = open_regular(path)
    except (OSError, ValueError) as error:
        raise _cannot_open(path, error) from error
    with stream:
        video: Video = FrameArray(path) if path.suffix.lower() == ".npy" else VideoFile(stream, name)
        try:
            yield video
        finally:
            video.close()


def _cannot_open(path: Path, error: Exception) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return MissingImageError(f"there is no clip {path}")
    if isinstance(error, NotAFileError):
        return ImageError(str(error).replace("not an image", "not a video"))
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return ImageError(f"{path} is a link that leads back to itself")
    why = error.strerror if isinstance(error, OSError) else error
    return ImageError(f"{str(path)[:200]!r} cannot be opened ({why})")
