"""Reading files of any number of channels: `.npy` arrays, TIFF files of many bands or pages, RGBA pictures.

Arrays are read without unpickling, and what a header declares is compared with a limit before anything is
decoded: an array may take as much memory as the largest picture that Pillow's own limit lets through.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from vitrim.data.bands import Bands
from vitrim.data.decoding import decoders, turned
from vitrim.data.image_errors import ChannelsError, ImageError, TooManyPixelsError

BYTES_OF_A_PIXEL = 3
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MODES = {"L": 8, "LA": 8, "RGB": 8, "RGBA": 8, "I;16": 16, "I;16L": 16, "I;16B": 16, "F": 32}  # bits of each
BITS, ORIENTATION = 258, "Orientation"  # TIFF tags


def starts_with(stream: BinaryIO, *starts: bytes) -> bool:
    """Whether a stream's first bytes are one of these; leaves it at its start."""
    stream.seek(0)
    head = stream.read(max(map(len, starts)))
    stream.seek(0)
    return head.startswith(starts)


def is_array(stream: BinaryIO) -> bool:
    return starts_with(stream, npy.MAGIC_PREFIX)


def is_tiff(stream: BinaryIO) -> bool:
    return starts_with(stream, *TIFF_STARTS)


def array_header(stream: BinaryIO, name: str) -> tuple[tuple[int, ...], numpy.dtype[Any]]:
    """Shape and kind of numbers as the header of an `.npy` file says them; leaves the stream at its start."""
    stream.seek(0)
    try:
        major, _ = npy.read_magic(stream)
        read: Callable[..., Any] = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
        shape, _, kind = read(stream)
    except Exception as error:  # a header is a Python literal, and anything may stand there
        raise ImageError(f"{name} is damaged: its header cannot be read ({_line(error)})") from error
    stream.seek(0)
    if kind.hasobject:
        raise ImageError(f"{name} holds Python objects, which are not opened; save plain numbers")
    if len(shape) not in (2, 3) or 0 in shape:
        raise ImageError(
            f"{name} has shape {list(shape)}; an image is [height, width, channels] or "
            "[channels, height, width]"
        )
    return shape, kind


def read_array(stream: BinaryIO, name: str) -> Bands:
    """The image in an `.npy` file."""
    shape, kind = array_header(stream, name)
    _check_memory(name, numpy.prod(shape, dtype=float) * kind.itemsize)
    try:
        return Bands(npy.read_array(stream, allow_pickle=False), name)
    except Exception as error:
        raise ImageError(f"{name} is damaged or cut short ({_line(error)})") from error


def read_bands(stream: BinaryIO, name: str) -> Bands:
    """The channels of a file, as many as it stores."""
    if is_array(stream):
        return read_array(stream, name)
    if not is_tiff(stream):
        with Image.open(stream, formats=decoders()) as image:
            image.load()
            return picture_bands(turned(image), name)
    try:
        pages = _pages(stream, name)
    except (OSError, SyntaxError, ValueError) as error:  # many bands, which Pillow has no mode for
        if isinstance(error, ImageError):
            raise
        pages = None
    return read_tiff(stream, name) if pages is None else pages


def picture_bands(image: Image.Image, name: str) -> Bands:
    """A decoded picture's own channels: 1 of grey, 3 of RGB, 4 of RGBA."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode not in MODES:
        raise ChannelsError(
            f"{name} has colour mode {image.mode}; images of other than 1 or 3 channels are RGBA, .npy "
            "arrays or TIFF of many bands"
        )
    return Bands(_plain(image), name)


def _pages(stream: BinaryIO, name: str) -> Bands | None:
    """The bands of all pages of a TIFF file; None where Pillow would change its values or pages differ."""
    found: list[NDArray[Any]] = []
    with Image.open(stream, formats=("TIFF",)) as image:
        count = int(getattr(image, "n_frames", 1))
        whole = count * image.size[0] * image.size[1] * len(image.getbands())
        _check_memory(name, float(whole) * MODES.get(image.mode, 8) / 8)
        for page in range(count):
            image.seek(page)
            bits = getattr(image, "tag_v2", {}).get(BITS, (1,))
            if MODES.get(image.mode) != max(bits):
                return None
            image.load()
            plain = _plain(image)
            found.append(plain if plain.ndim == 3 else plain[..., None])
    if len({(page.shape[:2], page.dtype) for page in found}) > 1:
        return None
    return Bands(numpy.concatenate(found, axis=2), name)


def _plain(image: Image.Image) -> NDArray[Any]:
    values = numpy.asarray(image)
    return values.astype(values.dtype.newbyteorder("="))


def read_tiff(stream: BinaryIO, name: str) -> Bands:
    """The bands of a TIFF file that Pillow has no mode for: by tifffile, which the extra `tiff` brings."""
    try:
        import tifffile
    except ModuleNotFoundError:
        raise ImageError(
            f"{name} is a TIFF file of bands that Pillow does not read; pip install 'vitrim[tiff]', or save "
            "it as .npy"
        ) from None
    stream.seek(0)
    try:
        with tifffile.TiffFile(io.BytesIO(stream.read())) as file:  # it wants a stream with a path, or none
            series, first = file.series, file.pages[0]
            axes, shape = series[0].axes, series[0].shape
            tag = first.tags.get(ORIENTATION) if isinstance(first, tifffile.TiffPage) else None
            upright = tag is None or tag.value == 1
            _check_memory(name, float(series[0].nbytes))
            if len(series) > 1 or len(axes) > 3 or "Y" not in axes or "X" not in axes or not upright:
                raise ImageError(
                    f"{name} is a TIFF file of {len(series)} images with the axes {axes} {list(shape)}"
                    f"{'' if upright else ', turned by its orientation tag'}; one upright image of many "
                    "bands is read: save it as .npy"
                )
            values = series[0].asarray()
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything
        raise ImageError(f"{name} is damaged, or a TIFF file that is not read ({_line(error)})") from error
    order = [
        axes.index("Y"),
        axes.index("X"),
        *(place for place, axis in enumerate(axes) if axis not in "YX"),
    ]
    return Bands(values.transpose(order), name)  # [height, width] or [height, width, channels]


def _check_memory(name: str, needed: float) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and needed > 2 * limit * BYTES_OF_A_PIXEL:
        raise TooManyPixelsError(
            f"{name} declares {needed / 1e6:,.0f} MB of values, more than the safety limit of "
            f"{2 * limit * BYTES_OF_A_PIXEL / 1e6:,.0f} MB; cut it into smaller images first"
        )


def stored_pixels(stream: BinaryIO, name: str) -> tuple[int, int]:
    """(width, height) of an `.npy` file; the shortest axis is the channels, whose number counts as well."""
    shape, kind = array_header(stream, name)
    _check_memory(name, numpy.prod(shape, dtype=float) * kind.itemsize)
    channels = min(shape) if len(shape) == 3 else 1
    sides = sorted(shape)[-2:]
    return sides[0], sides[1] * max(1, channels * kind.itemsize // BYTES_OF_A_PIXEL)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
