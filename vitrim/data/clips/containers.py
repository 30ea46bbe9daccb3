"""Frames out of video files (mp4, webm, avi ...), by PyAV.

Frames are counted by the packets of the file, as webm says no count and other headers may be wrong. A frame
is found by its time stamp: seek back to a keyframe, decode until it is reached; so are frames of unsteady
rate. Where packets are not frames, or have no time stamps, all frames are decoded in order instead. The turn
that phones write beside the pictures is applied. Needs the extra: pip install 'vitrim[video]'.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from PIL import Image

from vitrim.data.clips.cut_short import missing_bytes
from vitrim.data.images import ImageError, TooManyPixelsError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame

ENDINGS = (
    ".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".3gp", ".flv", ".wmv", ".ogv", ".ts",
)  # fmt: skip
# What FFmpeg may open: no playlists, which name other files and addresses, and nothing beyond the given file.
OPENING = {
    "format_whitelist": "mov,mp4,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg",
    "protocol_whitelist": "",
}
NOT_FRAMES = ("vp8",)  # codecs with packets that show nothing
MATRIX = 65536  # one, in a display matrix
TURNS = {  # (a, b, c, d) of the display matrix: x' = ax + cy, y' = bx + dy
    (1, 0, 0, 1): None,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


class MiscountedError(Exception):
    """The packets of a file are not its frames; they have to be counted by decoding."""


class VideoFile:
    """An open file; `count` frames, of which `read` gives some.

    Raises:
        ImageError: for whatever is wrong with the file, in one sentence that names it.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self.container = _opened(stream, name)
        try:
            self.video = self._stream()
            self._check_size(self.video.codec_context.width, self.video.codec_context.height)
            packets = [
                packet
                for packet in self._packets()
                if packet.size and not packet.is_discard  # cut off by an edit list
            ]
        except BaseException:
            self.close()
            raise
        stamps = [packet.pts for packet in packets if packet.pts is not None]
        self.stamps = sorted(stamps)
        keys = sorted((p.pts, _start(p)) for p in packets if p.is_keyframe and p.pts is not None)
        self.keys, self.starts = [pts for pts, _ in keys], [start for _, start in keys]
        self.count = len(packets)
        odd = len(set(stamps)) != len(packets) or self.video.codec_context.name in NOT_FRAMES
        self.in_order = odd or not self.keys
        if self.in_order and packets:
            self.count_by_decoding()
        if not self.count:
            self.close()
            raise ImageError(f"{name} holds no frames")

    def close(self) -> None:
        self.container.close()

    def read(self, wanted: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        """Frames by their numbers, which must ascend."""
        found = self._counted(wanted) if self.in_order else self._sought(wanted)
        for number, frame in found:
            yield number, self._upright(frame)

    def count_by_decoding(self) -> None:
        self.in_order = True
        self.count = sum(1 for _ in self._decoded(min(self.starts, default=0)))

    def _counted(self, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        asked = set(wanted)
        for number, frame in enumerate(self._decoded(min(self.starts, default=0))):
            if number in asked:
                yield number, frame
            if number == wanted[-1]:
                return

    def _sought(self, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        frames: Iterator[VideoFrame] | None = None
        here = 0
        for number in wanted:
            target = self.stamps[number]
            key = bisect_right(self.keys, target)  # keyframes up to the target
            if frames is None or bisect_right(self.keys, here) < key:
                frames = self._decoded(self.starts[max(0, key - 1)])
            frame = next((frame for frame in frames if frame.pts is None or frame.pts >= target), None)
            if frame is None or frame.pts != target:
                raise MiscountedError(self.name)
            here = target
            yield number, frame

    def _decoded(self, start: int) -> Iterator[VideoFrame]:
        """Frames in order, from the last keyframe at or before a time of decoding."""
        try:
            self.container.seek(start, stream=self.video, backward=True)
            for frame in self.container.decode(self.video):
                self._check_size(frame.width, frame.height)
                yield frame
        except ImageError:
            raise
        except Exception as error:  # FFmpeg's errors are of many types
            raise self._damaged(error) from error

    def _packets(self) -> Iterator[Any]:
        try:
            for packet in self.container.demux(self.video):
                if packet.is_corrupt:
                    raise ImageError(f"{self.name} is cut short: its last frame is not whole")
                yield packet
        except ImageError:
            raise
        except Exception as error:
            raise self._damaged(error) from error

    def _stream(self) -> Any:
        if not self.container.streams.video:
            what = "only sound" if self.container.streams.audio else "no pictures"
            raise ImageError(f"{self.name} has {what} in it")
        stream = self.container.streams.video[0]
        if stream.codec_context is None:
            raise ImageError(f"{self.name} is in a video codec that PyAV's FFmpeg does not read")
        stream.codec_context.thread_count = 1  # loader processes run side by side
        return stream

    def _check_size(self, width: int, height: int) -> None:
        check_pixels(self.name, width, height)

    def _damaged(self, error: Exception) -> ImageError:
        return ImageError(f"{self.name} is damaged or cut short ({_words(error)})")

    def _upright(self, frame: VideoFrame) -> Image.Image:
        if frame.is_corrupt:
            raise ImageError(f"{self.name} is damaged: a frame of it cannot be decoded whole")
        try:
            image: Image.Image = frame.to_image()
        except Exception as error:
            raise self._damaged(error) from error
        turn = self._turn(frame)
        return image if turn is None else image.transpose(turn)

    def _turn(self, frame: VideoFrame) -> Image.Transpose | None:
        for data in cast(Any, frame).side_data:  # PyAV's types say its keys
            if data.type.name == "DISPLAYMATRIX":
                a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
                turn = tuple(round(value / MATRIX) for value in (a, b, c, d))
                if turn not in TURNS:
                    raise ImageError(
                        f"{self.name} is to be shown turned by another angle than a right one "
                        f"({frame.rotation} degrees), which vitrim does not do; turn it first"
                    )
                return TURNS[turn]  # type: ignore[index]
        return None


def check_pixels(name: str, width: int, height: int) -> None:
    """Pillow's limit for pictures, for every frame."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > 2 * limit:  # where Pillow refuses as well
        raise TooManyPixelsError(
            f"{name} has frames of {width} x {height} pixels, more than Pillow's safety limit allows; "
            "shrink it first"
        )


def check_reader() -> None:
    """Refuse video files at once where nothing reads them."""
    try:
        import av  # noqa: F401
    except ImportError:
        raise ImportError(
            "video files are decoded by PyAV, which is not installed; pip install 'vitrim[video]'"
        ) from None


def _opened(stream: BinaryIO, name: str) -> InputContainer:
    check_reader()
    import av

    missing = missing_bytes(stream)
    if missing:
        raise ImageError(f"{name} is cut short: at least {missing:,} bytes of it are missing")
    try:
        return av.open(stream, mode="r", container_options=OPENING, metadata_errors="replace")
    except MemoryError as error:
        raise ImageError(f"{name} does not fit into memory") from error
    except Exception as error:
        if stream.seek(0, 2) == 0:
            raise ImageError(f"{name} is empty (0 bytes)") from error
        raise ImageError(
            f"{name} is damaged, or no video of the kinds that vitrim reads ({', '.join(ENDINGS)})"
        ) from error


def _start(packet: Packet) -> int:
    """When to begin decoding for a keyframe: containers seek by the one or the other time."""
    times = [time for time in (packet.pts, packet.dts) if time is not None]
    return min(times)


def _words(error: Exception) -> str:
    """What FFmpeg says, without its numbers."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
