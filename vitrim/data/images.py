"""Reading one image file as upright 8-bit RGB, however it was saved, or saying in one sentence why not.

Transparent pixels become white, 16-bit grey is scaled to 8 bits (Pillow alone would clip it to white), the
EXIF orientation of cameras and phones is applied, CMYK, grey and palette images are converted. Pillow's limit
against decompression bombs stays on.
"""

import errno
import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy
from PIL import ExifTags, Image, UnidentifiedImageError

EXTENSIONS = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".jp2",
        ".png",
        ".bmp",
        ".gif",
        ".webp",
        ".avif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    )
)

UPRIGHT = {  # EXIF orientation -> what turns the stored pixels the right way up
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """An image that cannot be used; the message names it."""

    def __init__(self, message: str) -> None:
        # A loader's reading process sends an error as a whole traceback, in which our sentence comes last.
        super().__init__(RAISED.split(message)[-1].strip())


class MissingImageError(ImageError, FileNotFoundError):
    """A listed image whose file is not there."""


RAISED = re.compile(r"^vitrim\.data\.images\.\w+: ", re.MULTILINE)


def read_image(path: str | Path, at_least: int | None = None) -> Image.Image:
    """The image in a file as upright RGB.

    `at_least` says how many pixels a side the caller needs: a JPEG of four times that or more is then decoded
    at a half, a quarter or an eighth, never below twice what is needed, which is several times faster.
    """
    path = Path(path)
    try:
        return decode_image(path, str(path), at_least)
    except FileNotFoundError as error:
        raise MissingImageError(f"there is no image {path}") from error
    except ImageError as error:
        if path.is_dir():
            raise ImageError(f"{path} is a folder, not an image") from error
        raise


def decode_image(stored: Path | BinaryIO, name: str, at_least: int | None = None) -> Image.Image:
    """The image in a file or in a stream of its bytes; `name` is what messages call it."""
    try:
        with Image.open(stored) as image:
            if at_least is not None:
                image.draft(None, (2 * at_least, 2 * at_least))  # None: keep the colour mode
            image.load()
            turn = UPRIGHT.get(_orientation(image))  # after load(), which turns TIFF files itself
    except FileNotFoundError:
        raise
    except Exception as error:  # decoders raise anything, struct.error included
        raise ImageError(_what_is_wrong(stored, name, error)) from error
    rgb = to_rgb(image, name)
    return rgb if turn is None else rgb.transpose(turn)


def _what_is_wrong(stored: Path | BinaryIO, name: str, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"{name} cannot be read: permission denied"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return f"{name} is a link that leads back to itself"
    if isinstance(error, Image.DecompressionBombError):
        return f"{name} has more pixels than Pillow's safety limit allows; shrink it first ({error})"
    if _is_empty(stored):
        return f"{name} is empty (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        return f"{name} is not an image in a format that Pillow can read"
    return f"{name} is damaged or cut short ({error})"


def _is_empty(stored: Path | BinaryIO) -> bool:
    return stored.stat().st_size == 0 if isinstance(stored, Path) else stored.seek(0, os.SEEK_END) == 0


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF beside sound pixels: take them as stored
        return 1


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """A decoded image as 8-bit RGB."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bit(image, name)
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(
            f"{name} has colour mode {image.mode}, which has no way to RGB; save it as RGB"
        ) from error


def _eight_bit(image: Image.Image, name: str) -> Image.Image:
    """Grey of more than 8 bits. 0 to 65,535 becomes 0 to 255; formats without a fixed range are refused."""
    # Pillow holds 16-bit PNG and PGM either as I;16 or as 32-bit I, depending on its version.
    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))):
        raise ImageError(
            f"{name} stores 32-bit grey (mode {image.mode}), whose range is not known; "
            "save it with 8 or 16 bits"
        )
    levels = numpy.asarray(image).astype(numpy.uint32)  # [H, W]
    return Image.fromarray(((levels * 255 + 32767) // 65535).astype(numpy.uint8))
