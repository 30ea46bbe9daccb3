"""What every image file is decoded with: Pillow's decoders of the formats allowed, and the right way up."""

from functools import cache

from PIL import ExifTags, Image

from vitrim.data.finding import FORMATS

UPRIGHT = {  # EXIF orientation -> what turns the stored pixels the right way up
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@cache
def decoders() -> tuple[str, ...]:
    """The formats of finding.py that this Pillow reads: AVIF and WebP are not in every one."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def turned(image: Image.Image, said_by: Image.Image | None = None) -> Image.Image:
    """A decoded image, turned as EXIF data say: its own, or those of the image it was made from."""
    turn = UPRIGHT.get(_orientation(said_by or image))  # after load(), which turns TIFF files itself
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF beside sound pixels: take them as stored
        return 1
