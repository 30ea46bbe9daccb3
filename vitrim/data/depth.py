"""Grey of more than 8 bits as 8 bits, by the range that the file declares.

    level = round(255 * value / brightest)

A file declares its range by its bits per sample (12-bit TIFF), by TIFF's MaxSampleValue or SMaxSampleValue
where that is the end of a range (4,095 and the like; other values are statistics, which TIFF 6.0 forbids to
show pictures by), by PNG's sBIT where the samples contradict the scaling that PNG prescribes, or by PGM's
maxval, which Pillow applies. Where nothing is declared, 16 bits are 0 to 65,535, as the formats define it:
the same for every picture, never stretched to its own values. `narrow_grey` finds pictures that are likely
to mean another range, and `vitrim data` says so.
"""

import struct
from typing import BinaryIO

import numpy
from numpy.typing import NDArray
from PIL import Image

FULL = 65535
BITS, PHOTOMETRIC, MAX_SAMPLE, SMAX_SAMPLE = 258, 262, 281, 341  # TIFF tags
MIN_IS_WHITE = 0
NARROW = 16  # what 12 bits fill of 16: one part of so many
ENDS = tuple(2**bits - 1 for bits in range(8, 16))  # ranges narrower than 16 bits
PNG_START = b"\x89PNG\r\n\x1a\n"


def is_deep_grey(image: Image.Image) -> bool:
    """16-bit grey, which Pillow holds as I;16 or, for PNG and PGM in some versions, as 32-bit I."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def eight_bit(image: Image.Image, significant: int | None = None) -> Image.Image:
    """16-bit grey as 8 bits; `significant` is what PNG's sBIT says."""
    levels = numpy.asarray(image).astype(numpy.uint32)  # [height, width]
    brightest = declared_brightest(image, levels, significant)
    eight = ((levels * 255 + brightest // 2) // brightest).astype(numpy.uint8)
    return Image.fromarray(255 - eight if _white_is_zero(image) else eight)


def declared_brightest(image: Image.Image, levels: NDArray[numpy.uint32], significant: int | None) -> int:
    """The largest value that a 16-bit grey image can have, as its file declares."""
    tags = getattr(image, "tag_v2", {})
    largest = int(levels.max(initial=0))
    told = [2 ** _number(tags.get(BITS)) - 1, _number(tags.get(MAX_SAMPLE)), _number(tags.get(SMAX_SAMPLE))]
    if significant is not None and _unscaled(levels, significant):
        told.append(2**significant - 1)
    # A range that the samples contradict is none: some programs copy the first picture's tags to all.
    return min((end for end in told if end in ENDS and largest <= end), default=FULL)


def _number(value: object) -> int:
    """The value of a TIFF tag of one whole number; 0 where there is none."""
    value = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    return int(value) if isinstance(value, (int, float)) and 0 <= value <= FULL else 0


def _white_is_zero(image: Image.Image) -> bool:
    """TIFF's WhiteIsZero, common in X-rays, which Pillow turns over for 8 bits but not for 16."""
    return getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == MIN_IS_WHITE


def _unscaled(levels: NDArray[numpy.uint32], significant: int) -> bool:
    """Whether samples of so many bits lie at the low end of 16, where PNG wants them scaled up.

    Scaled up, values below 2^significant have nothing (or a rounding) in their lowest bits.
    """
    lowest = levels % 2 ** max(0, 16 - significant)
    return bool(levels.max(initial=0) < 2**significant and lowest.max(initial=0) > 1)


def significant_bits(stream: BinaryIO) -> int | None:
    """What the sBIT chunk of a grey PNG says; None without one. Leaves the stream at its start."""
    stream.seek(0)
    found = None
    if stream.read(8) == PNG_START:
        for _ in range(64):  # sBIT stands before the palette and the pixels
            head = stream.read(8)
            if len(head) < 8:
                break
            length, kind = struct.unpack(">I4s", head)
            if kind == b"sBIT" and 1 <= length <= 4:
                found = stream.read(length)[0]
            if kind in (b"sBIT", b"IDAT", b"PLTE"):
                break
            stream.seek(length + 4, 1)
    stream.seek(0)
    return found


def narrow_grey(image: Image.Image, significant: int | None = None) -> int | None:
    """The brightest value of a 16-bit grey picture that declares no range and uses less than 1/16 of it."""
    if not is_deep_grey(image) or image.format == "PPM":
        return None
    levels = numpy.asarray(image).astype(numpy.uint32)
    brightest = int(levels.max(initial=0))
    undeclared = declared_brightest(image, levels, significant) == FULL
    return brightest if undeclared and 0 < brightest < (FULL + 1) // NARROW else None
