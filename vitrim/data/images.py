"""Reading one image as upright 8-bit RGB, however it was saved, or saying in one sentence why not. For models
of other than 1 or 3 channels, and for `.npy` arrays, the channels as they are stored: bands.py.

Transparent pixels become white, 16-bit grey is scaled to 8 bits (Pillow alone would clip it to white;
depth.py), the EXIF orientation of cameras and phones is applied, CMYK, grey and palette images are
converted. Pillow's limit against decompression bombs stays on. This module and band_files.py are the only
places of the package that open image files, and only by the decoders of finding.py.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

from PIL import Image, UnidentifiedImageError

from vitrim.data.band_files import is_array, is_tiff, read_bands, read_tiff, stored_pixels
from vitrim.data.bands import Bands
from vitrim.data.decoding import decoders, turned
from vitrim.data.depth import eight_bit, is_deep_grey, narrow_grey, significant_bits
from vitrim.data.finding import EXTENSIONS as EXTENSIONS
from vitrim.data.finding import NotAFileError, open_regular
from vitrim.data.image_errors import ChannelsError as ChannelsError
from vitrim.data.image_errors import ImageError as ImageError
from vitrim.data.image_errors import MissingImageError as MissingImageError
from vitrim.data.image_errors import TooManyPixelsError as TooManyPixelsError

Picture: TypeAlias = Image.Image | Bands
AS_RGB = (1, 3)  # channels of models that see a picture as upright RGB, or its luminance


def read_image(path: str | Path, at_least: int | None = None, channels: int = 3) -> Picture:
    """The image in a file as upright RGB; `.npy` arrays, and all for a model of other than 1 or 3 `channels`,
    as `Bands`.

    `at_least` says how many pixels a side the caller needs: a JPEG of four times that or more is then decoded
    at a half, a quarter or an eighth, never below twice what is needed, which is several times faster.
    """
    path = Path(path)
    try:
        stream = open_regular(path)
    except (OSError, ValueError) as error:
        raise _cannot_open(path, error) from error
    with stream:
        return decode_image(stream, str(path), at_least, channels)


def read_rgb(path: str | Path, at_least: int | None = None) -> Image.Image:
    """The image in a file as upright RGB, and no other: a `.npy` array must hold such a picture."""
    image = read_image(path, at_least)
    return image if isinstance(image, Image.Image) else image.picture().convert("RGB")


def decode_image(stream: BinaryIO, name: str, at_least: int | None = None, channels: int = 3) -> Picture:
    """The image in a stream of a file's bytes; `name` is what messages call it."""
    try:
        if channels not in AS_RGB or is_array(stream):
            return read_bands(stream, name)
        with _opened(stream) as (image, significant):
            if at_least is not None:
                image.draft(None, (2 * at_least, 2 * at_least))  # None: keep the colour mode
            image.load()
            return upright_rgb(image, name, significant)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        if is_tiff(stream):  # of many bands, perhaps
            return read_tiff(stream, name)
        raise ImageError(_what_is_wrong(stream, name, error)) from error
    except Exception as error:  # decoders raise anything, struct.error included
        raise ImageError(_what_is_wrong(stream, name, error)) from error


def read_stored(path: str | Path) -> Image.Image:
    """The pixels of a file as they are stored, neither turned nor converted: of masks, whose values are
    numbers of classes."""
    path = Path(path)
    try:
        stream = open_regular(path)
    except (OSError, ValueError) as error:
        raise _cannot_open(path, error) from error
    with stream:
        try:
            with _opened(stream) as (image, _):
                image.load()
                return image
        except Exception as error:
            raise ImageError(_what_is_wrong(stream, str(path), error)) from error


def stored_size(stream: BinaryIO, name: str) -> tuple[int, int]:
    """Width and height as the header of an image file says them; nothing is decoded."""
    if is_array(stream):
        return stored_pixels(stream, name)
    try:
        with _opened(stream) as (image, _):
            return image.size
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(_what_is_wrong(stream, name, error)) from error
    except Exception as error:
        raise ImageError(_what_is_wrong(stream, name, error)) from error


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[tuple[Image.Image, int | None]]:
    """An image whose pixels are not decoded yet, and what a PNG says of its significant bits."""
    significant = significant_bits(stream)
    with Image.open(stream, formats=decoders()) as image:
        yield image, significant


def undeclared_brightest(path: str | Path) -> int | None:
    """The brightest value of 16-bit grey that seems to hold fewer bits and does not say so; else None."""
    try:
        with open_regular(Path(path)) as stream, _opened(stream) as (image, significant):
            return narrow_grey(image, significant)
    except Exception:  # what is wrong with a file is said when it is read
        return None


def upright_rgb(image: Image.Image, name: str, significant: int | None = None) -> Image.Image:
    """A decoded image as 8-bit RGB, turned as its EXIF data say."""
    return turned(to_rgb(image, name, significant), image)


def _cannot_open(path: Path, error: Exception) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return MissingImageError(f"there is no image {path}")
    if isinstance(error, PermissionError):
        return ImageError(f"{path} cannot be read: permission denied")
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return ImageError(f"{path} is a link that leads back to itself")
    if isinstance(error, NotAFileError):
        return ImageError(str(error))
    if isinstance(error, OSError) and error.errno == errno.ENXIO:
        return ImageError(f"{path} is a socket, not an image")
    why = error.strerror if isinstance(error, OSError) else error
    return ImageError(f"{str(path)[:200]!r} cannot be opened ({why})")


def _what_is_wrong(stream: BinaryIO, name: str, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"{name} has more pixels than Pillow's safety limit allows; shrink it first ({error})"
    if isinstance(error, MemoryError):
        return f"{name} does not fit into memory; shrink it first"
    if stream.seek(0, os.SEEK_END) == 0:
        return f"{name} is empty (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        return f"{name} is not an image in a format that Pillow can read and vitrim allows ({_names()})"
    return f"{name} is damaged or cut short ({' '.join(str(error).split())})"


def _names() -> str:
    return ", ".join(name for name in decoders() if name != "DIB")


def to_rgb(image: Image.Image, name: str, significant: int | None = None) -> Image.Image:
    """A decoded image as 8-bit RGB; `significant` is what a PNG says of its grey (see depth.py)."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _grey(image, name, significant)
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(
            f"{name} has colour mode {image.mode}, which has no way to RGB; save it as RGB"
        ) from error


def _grey(image: Image.Image, name: str, significant: int | None) -> Image.Image:
    """Grey of more than 8 bits; formats without a fixed range are refused."""
    if not is_deep_grey(image):
        raise ImageError(
            f"{name} stores 32-bit grey (mode {image.mode}), whose range is not known; "
            "save it with 8 or 16 bits"
        )
    return eight_bit(image, significant)
