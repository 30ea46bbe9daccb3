"""How many bytes a video file is short of what its boxes say: FFmpeg reads what is left without a word."""

import struct
from typing import BinaryIO

BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"styp", b"sidx")
MOST = 100_000  # boxes of one file; more are left alone


def missing_bytes(stream: BinaryIO) -> int:
    """0 where nothing is known to be missing. The stream is left at its start."""
    size = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(12)
    if head[:4] == b"RIFF" and len(head) == 12:
        end = 8 + struct.unpack("<I", head[4:8])[0]
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        end = _matroska_end(stream)
    elif head[4:8] in BOXES:
        end = _last_box_end(stream, size)
    else:
        end = 0
    stream.seek(0)
    return max(0, end - size)


def _last_box_end(stream: BinaryIO, size: int) -> int:
    """mp4: boxes of (length, name) one after the other; a length of 1 is followed by one of 64 bits."""
    place = 0
    for _ in range(MOST):
        if place + 8 > size:
            return place
        stream.seek(place)
        length, name = struct.unpack(">I4s", stream.read(8))
        if length == 1:
            long = stream.read(8)
            length = struct.unpack(">Q", long)[0] if len(long) == 8 else 0
        if length < 8 or name not in BOXES:  # up to the end of the file, or nothing we know
            return place
        place += length
    return place


def _matroska_end(stream: BinaryIO) -> int:
    """webm: the header element, then the segment with everything in it."""
    stream.seek(4)
    header = _number(stream)
    if header is None:
        return 0
    stream.seek(stream.tell() + header)
    if stream.read(4) != b"\x18\x53\x80\x67":
        return 0
    length = _number(stream)
    return 0 if length is None else stream.tell() + length


def _number(stream: BinaryIO) -> int | None:
    """A number whose first bits say how long it is; None for one that says "unknown"."""
    first = stream.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> more)]) + stream.read(more), "big")
    return None if value == (1 << (7 * (more + 1))) - 1 else value
