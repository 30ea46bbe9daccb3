"""Grey of more than 8 bits: scaled by the range that the file declares, and never by the picture's own
values.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy
import pytest
from PIL import Image, TiffImagePlugin

from vitrim.data import open_data, read_image
from vitrim.data.checking import decode
from vitrim.data.depth import significant_bits

TWELVE = numpy.array([[0, 5, 2048, 4000], [7, 1023, 3000, 4095]], numpy.uint16)
AS_EIGHT = numpy.round(TWELVE.astype(float) * 255 / 4095)


def grey(file: Path) -> numpy.ndarray:
    found = numpy.asarray(read_image(file)).astype(int)
    assert (found[..., 0] == found[..., 1]).all() and (found[..., 0] == found[..., 2]).all()
    return found[..., 0]


def tiff(file: Path, levels: numpy.ndarray, **tags: int) -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[int(name[1:])] = value
    Image.fromarray(levels).save(file, tiffinfo=info)


def twelve_bit_tiff(file: Path, levels: numpy.ndarray) -> None:
    """Two values packed into three bytes, as cameras write them; Pillow reads these but does not write
    them.
    """
    packed = b""
    for row in levels.tolist():
        for first, second in zip(row[::2], row[1::2], strict=True):
            packed += bytes((first >> 4, (first & 15) << 4 | second >> 8, second & 255))
    height, width = levels.shape
    tags = ((256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, height))
    tags += ((279, len(packed)),)
    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    file.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory + bytes(4))


def with_sbit(file: Path, levels: numpy.ndarray, bits: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, "PNG")
    content = stream.getvalue()
    chunk = b"sBIT" + bytes([bits])
    place = content.index(b"IDAT") - 4
    whole = struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk))
    file.write_bytes(content[:place] + whole + content[place:])


def test_packed_twelve_bits(tmp_path: Path) -> None:
    twelve_bit_tiff(tmp_path / "a.tif", TWELVE)
    numpy.testing.assert_array_equal(grey(tmp_path / "a.tif"), AS_EIGHT)


@pytest.mark.parametrize("tag", ["t281", "t341"])
def test_the_end_of_a_range_that_tiff_names(tmp_path: Path, tag: str) -> None:
    tiff(tmp_path / "a.tif", TWELVE, **{tag: 4095})
    numpy.testing.assert_array_equal(grey(tmp_path / "a.tif"), AS_EIGHT)
    tiff(tmp_path / "dark.tif", TWELVE // 100, **{tag: 4095})  # its own values do not matter
    numpy.testing.assert_array_equal(
        grey(tmp_path / "dark.tif"), numpy.round((TWELVE // 100).astype(float) * 255 / 4095)
    )


@pytest.mark.parametrize("told", [3871, 1023, 65535])
def test_statistics_and_ranges_the_samples_contradict_are_no_range(tmp_path: Path, told: int) -> None:
    tiff(tmp_path / "a.tif", TWELVE, t281=told)
    assert grey(tmp_path / "a.tif").max() == 16


def test_white_is_zero(tmp_path: Path) -> None:
    levels = numpy.array([[0, 65535, 20000, 40000]], numpy.uint16)
    tiff(tmp_path / "a.tif", levels, t262=0)
    numpy.testing.assert_array_equal(grey(tmp_path / "a.tif"), 255 - numpy.round(levels / 257.0))
    tiff(tmp_path / "b.tif", TWELVE, t262=0, t281=4095)
    numpy.testing.assert_array_equal(grey(tmp_path / "b.tif"), 255 - AS_EIGHT)


def test_significant_bits_of_png(tmp_path: Path) -> None:
    with_sbit(tmp_path / "low.png", TWELVE, 12)
    numpy.testing.assert_array_equal(grey(tmp_path / "low.png"), AS_EIGHT)
    with_sbit(tmp_path / "scaled.png", TWELVE << 4 | TWELVE >> 8, 12)  # as PNG prescribes
    numpy.testing.assert_array_equal(grey(tmp_path / "scaled.png"), AS_EIGHT)
    dark = TWELVE // 20  # scaled as well, but all of it below 4,096: dark it is
    with_sbit(tmp_path / "dark.png", dark << 4 | dark >> 8, 12)
    assert grey(tmp_path / "dark.png").max() == round(204 * 255 / 4095)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffsBIT", b"GIF89a"]
)
def test_looking_for_significant_bits_never_fails(content: bytes) -> None:
    stream = io.BytesIO(content)
    assert significant_bits(stream) is None and stream.tell() == 0


def test_maxval_of_pgm(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 4 2 4095\n" + TWELVE.astype(">u2").tobytes())
    numpy.testing.assert_allclose(grey(tmp_path / "a.pgm"), AS_EIGHT, atol=1)


def test_full_sixteen_bits_keep_their_levels_and_the_byte_order_does_not_matter(tmp_path: Path) -> None:
    levels = numpy.arange(0, 65536, 7, dtype=numpy.uint16).reshape(1, -1)
    expected = numpy.round(levels / 257.0)
    Image.fromarray(levels).save(tmp_path / "a.png")
    Image.frombytes("I;16B", levels.shape[::-1], levels.astype(">u2").tobytes()).save(tmp_path / "b.tif")
    for name in ("a.png", "b.tif"):
        numpy.testing.assert_array_equal(grey(tmp_path / name), expected)
    assert len(numpy.unique(expected)) == 256


def fill(folder: Path, largest: int, kind: type = numpy.uint16, least: int = 0) -> None:
    random = numpy.random.default_rng(0)
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        for index in range(6):
            levels = random.integers(least, largest, (16, 16)).astype(kind)
            Image.fromarray(levels).save(folder / name / f"{index}.png")


def test_undeclared_twelve_bits_are_told_when_the_data_are_opened(tmp_path: Path) -> None:
    fill(tmp_path / "twelve", 4096)
    notes = " ".join(open_data(f"folder:{tmp_path / 'twelve'}").notes)
    assert "16-bit grey whose values stay below 4,096" in notes and "nearly black" in notes
    fill(tmp_path / "sixteen", 65536)
    assert "16-bit" not in " ".join(open_data(f"folder:{tmp_path / 'sixteen'}").notes)


@pytest.mark.parametrize(
    "largest, kind, least, dark, flat",
    [
        (4096, numpy.uint16, 0, 12, 0),
        (12, numpy.uint8, 0, 12, 0),
        (101, numpy.uint8, 100, 0, 12),
        (1, numpy.uint8, 0, 12, 12),
        (255, numpy.uint8, 0, 0, 0),
        (256, numpy.uint8, 255, 0, 12),
    ],
)
def test_nearly_black_and_nearly_constant_images_are_counted(
    tmp_path, largest, kind, least, dark, flat
) -> None:
    fill(tmp_path / "d", largest, kind, least)
    found = decode(open_data(f"folder:{tmp_path / 'd'}"), every=True)
    assert (len(found.dark), len(found.flat)) == (dark, flat)


def test_the_command_says_so(tmp_path: Path, capsys) -> None:
    from vitrim.cli.main import main

    fill(tmp_path / "d", 4096)
    assert main(["data", f"folder:{tmp_path / 'd'}", "--check"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "12 of 12 images are nearly black" in said and "below 4,096" in said
