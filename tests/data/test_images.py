"""Reading images: every way of storing a picture gives the same RGB, and a bad file gives one sentence."""

import numpy
import pytest
from PIL import Image

from vitrim.data import ImageError, read_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def halves(left, right, size=(40, 20)) -> Image.Image:
    """Wider than high, left and right of one colour each, so that turning and mirroring show."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, size[0], size[1]))
    return image


@pytest.mark.parametrize(
    "stored, expected",
    [
        (Image.new("1", (6, 4), 1), WHITE),
        (Image.new("L", (6, 4), 100), (100, 100, 100)),
        (Image.new("LA", (6, 4), (100, 0)), WHITE),
        (Image.new("RGBA", (6, 4), (255, 0, 0, 0)), WHITE),
        (Image.new("RGBA", (6, 4), (255, 0, 0, 255)), RED),
        (Image.new("RGBA", (6, 4), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("RGB", (6, 4), RED).quantize(4), RED),
        (Image.fromarray(numpy.full((4, 6), 65535, numpy.uint16)), WHITE),
        (Image.fromarray(numpy.full((4, 6), 1000, numpy.uint16)), (4, 4, 4)),
    ],
)
def test_png_of_any_mode_becomes_rgb(tmp_path, stored, expected):
    stored.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image.mode, image.size, image.getpixel((3, 2))) == ("RGB", (6, 4), expected)


def test_transparent_palette_entry_becomes_white(tmp_path):
    palette = Image.new("P", (6, 4), 1)
    palette.putpalette([*RED, 0, 0, 255])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "a.png", transparency=1)
    image = read_image(tmp_path / "a.png")
    assert image.getpixel((3, 2)) == WHITE and image.getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    "ending, mode",
    [
        ("jpg", "CMYK"),
        ("jpg", "L"),
        ("tif", "CMYK"),
        ("tif", "I;16"),
        ("pgm", "I"),
        ("gif", "P"),
        ("webp", "RGBA"),
        ("bmp", "RGB"),
    ],
)
def test_other_formats_keep_light_and_dark(tmp_path, ending, mode):
    if mode.startswith("I"):
        levels = numpy.full((20, 40), 60_000, numpy.uint16)
        levels[:, 20:] = 5_000
        stored = Image.fromarray(levels)
    else:
        scene = halves((230, 230, 230), (20, 20, 20))
        stored = scene.quantize(8) if mode == "P" else scene.convert(mode)
    stored.save(tmp_path / f"a.{ending}")
    image = read_image(tmp_path / f"a.{ending}")
    assert image.mode == "RGB"
    numpy.testing.assert_allclose(image.getpixel((5, 10)), 231, atol=6)
    numpy.testing.assert_allclose(image.getpixel((35, 10)), 20, atol=6)


STORED_TURNED = {  # orientation -> how a camera held that way stores the scene
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, ending, orientation):
    scene = halves(RED, (0, 0, 255))
    scene.paste((0, 255, 0), (0, 0, 16, 8))  # one corner: no two orientations look alike
    turn = STORED_TURNED.get(orientation)
    stored = scene if turn is None else scene.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{ending}", exif=exif)
    image = read_image(tmp_path / f"a.{ending}")
    assert image.size == (40, 20)
    numpy.testing.assert_allclose(numpy.asarray(image)[4, 4], (0, 255, 0), atol=40)
    numpy.testing.assert_allclose(numpy.asarray(image)[15, 30], (0, 0, 255), atol=40)


def test_broken_exif_beside_sound_pixels_does_not_matter(tmp_path):
    halves(RED, WHITE).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_image(tmp_path / "a.jpg").size == (40, 20)


def test_large_jpeg_is_decoded_smaller_but_never_below_what_is_needed(tmp_path):
    scene = halves(RED, (0, 0, 255), size=(1600, 1000))
    exif = Image.Exif()
    exif[0x0112] = 6
    scene.save(tmp_path / "a.jpg", exif=exif)
    scene.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.jpg", at_least=224)
    assert image.size == (500, 800)  # half, turned; a quarter is below 448
    numpy.testing.assert_allclose(image.getpixel((250, 100)), RED, atol=8)
    assert read_image(tmp_path / "a.jpg", at_least=600).size == (1000, 1600)
    assert read_image(tmp_path / "a.png", at_least=224).size == (1600, 1000)


@pytest.mark.parametrize("ending", ["webp", "tif"])  # the other formats are in test_data_bad_input.py
def test_a_file_cut_short_is_one_sentence_with_its_name(tmp_path, ending):
    pixels = numpy.random.default_rng(0).integers(0, 255, (64, 64, 3), numpy.uint8)
    file = tmp_path / f"a.{ending}"
    Image.fromarray(pixels).save(file)
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(ImageError, match=r"is damaged or cut short|is not an image") as error:
        read_image(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)
