"""Images of any number of channels: which axis is theirs, which value counts as 1, and what is refused."""

import io
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from vitrim.backbones.preprocess import Preprocess
from vitrim.data import open_data
from vitrim.data.band_files import stored_pixels
from vitrim.data.bands import Bands
from vitrim.data.images import ChannelsError, ImageError, TooManyPixelsError, decode_image, read_image
from vitrim.data.transforms import eval_transform, train_transform

rng = numpy.random.default_rng(0)


def values(*shape: int, kind: str = "uint8") -> numpy.ndarray:
    return rng.integers(0, 255, shape).astype(kind)


def expects(channels: int, scale: float | None = None, size: tuple[int, int] = (6, 8)) -> Preprocess:
    return Preprocess(size, (0.0,) * channels, (1.0,) * channels, "bilinear", channels=channels, scale=scale)


def saved(folder: Path, array: numpy.ndarray) -> Path:
    numpy.save(folder / "image.npy", array)
    return folder / "image.npy"


def test_channels_first_and_last_are_the_same_image(tmp_path: Path) -> None:
    array = values(6, 8, 4)
    last = eval_transform(expects(4))(read_image(saved(tmp_path, array), None, 4))
    first = eval_transform(expects(4))(read_image(saved(tmp_path, array.transpose(2, 0, 1)), None, 4))
    assert torch.equal(last, first)
    torch.testing.assert_close(last, torch.from_numpy(array).permute(2, 0, 1) / 255)


@pytest.mark.parametrize(
    ("kind", "scale", "one"),
    [
        ("uint8", None, 255),
        ("uint16", None, 65535),
        (">u2", 10000.0, 10000),
        ("int16", 100.0, 100),
        ("float32", 2.0, 2),
    ],
)
def test_what_counts_as_one(kind: str, scale: float | None, one: float) -> None:
    array = values(6, 8, 5, kind=kind)
    found = eval_transform(expects(5, scale))(Bands(array, "image"))
    expected = torch.from_numpy(array.astype("float32") / one).permute(2, 0, 1)
    torch.testing.assert_close(found, expected)


def test_floats_from_0_to_1_are_taken_as_they_are() -> None:
    array = rng.random((6, 8, 12))
    found = eval_transform(expects(12))(Bands(array, "image"))
    torch.testing.assert_close(found, torch.from_numpy(array).permute(2, 0, 1).float())


def test_grey_and_rgb_arrays_of_8_bits_are_seen_like_pictures(tmp_path: Path) -> None:
    for array in (values(20, 30, 3), values(20, 30)):
        Image.fromarray(array).save(tmp_path / "image.png")
        for transform in (eval_transform(expects(3)), eval_transform(expects(1))):
            picture = transform(read_image(tmp_path / "image.png"))
            assert torch.equal(transform(read_image(saved(tmp_path, array))), picture)


def test_a_png_has_as_many_channels_as_it_stores(tmp_path: Path) -> None:
    rgba = values(6, 8, 4)
    Image.fromarray(rgba, "RGBA").save(tmp_path / "image.png")
    found = eval_transform(expects(4))(read_image(tmp_path / "image.png", None, 4))
    torch.testing.assert_close(found, torch.from_numpy(rgba).permute(2, 0, 1) / 255)
    Image.fromarray(rgba[..., :3]).save(tmp_path / "rgb.png")
    with pytest.raises(ChannelsError, match=r"rgb.png has shape \[6, 8, 3\], .* 4 channels"):
        eval_transform(expects(4))(read_image(tmp_path / "rgb.png", None, 4))


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_pages_of_a_tiff_are_channels(kind: str, tmp_path: Path) -> None:
    array = values(6, 8, 7, kind=kind)
    pages = [Image.fromarray(array[..., channel]) for channel in range(7)]
    pages[0].save(tmp_path / "image.tif", save_all=True, append_images=pages[1:])
    found = read_image(tmp_path / "image.tif", None, 7)
    assert isinstance(found, Bands) and found.values.dtype == kind
    numpy.testing.assert_array_equal(found.values, array)


@pytest.mark.parametrize(
    ("shape", "planar", "kind"),
    [((6, 8, 12), "contig", "uint16"), ((12, 6, 8), "separate", "uint8"), ((6, 8, 4), "contig", "uint16")],
)
def test_bands_of_a_tiff_that_pillow_has_no_mode_for(
    shape: tuple[int, int, int], planar: str, kind: str, tmp_path: Path
) -> None:
    tifffile = pytest.importorskip("tifffile")
    array = values(*shape, kind=kind) * (100 if kind == "uint16" else 1)
    tifffile.imwrite(tmp_path / "image.tif", array, planarconfig=planar, photometric="minisblack")
    channels = shape[0] if planar == "separate" else shape[2]
    found = read_image(tmp_path / "image.tif", None, channels)
    assert isinstance(found, Bands) and found.values.dtype == kind
    last = array.transpose(1, 2, 0) if planar == "separate" else array
    numpy.testing.assert_array_equal(found.values, last)


def test_a_model_of_3_channels_is_told_what_a_tiff_of_many_bands_is(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(
        tmp_path / "image.tif", values(6, 8, 12), planarconfig="contig", photometric="minisblack"
    )
    with pytest.raises(ChannelsError, match="is the 3 channels that the model takes"):
        eval_transform(expects(3))(read_image(tmp_path / "image.tif"))


def test_without_tifffile_the_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(
        tmp_path / "image.tif", values(6, 8, 12), planarconfig="contig", photometric="minisblack"
    )
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(ImageError, match=r"pip install 'vitrim\[tiff\]'"):
        read_image(tmp_path / "image.tif", None, 12)


@pytest.mark.parametrize(
    ("array", "channels", "sentence"),
    [
        (values(4, 8, 4), 4, "may be the first or the last axis"),
        (values(6, 8, 5), 4, "is the 4 channels that the model takes"),
        (values(6, 8), 4, "is the 4 channels that the model takes"),
        (values(6, 8, 4, 2), 4, "an image is"),
        (values(6, 8, 4, kind="int32"), 4, "--full_scale"),
        (rng.random((6, 8, 4)) * 9, 4, "--full_scale"),
        (numpy.full((6, 8, 4), numpy.nan), 4, "no numbers"),
        (numpy.zeros((6, 8, 4), complex), 4, "whole numbers or floats"),
        (numpy.zeros((6, 8, 4), bool), 4, "whole numbers or floats"),
        (rng.random((6, 8, 12)), 3, "is the 3 channels that the model takes"),
    ],
)
def test_what_is_refused(array: numpy.ndarray, channels: int, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=sentence) as refused:
        eval_transform(expects(channels))(read_image(saved(tmp_path, array), None, channels))
    assert "image.npy" in str(refused.value)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    numpy.save(tmp_path / "image.npy", numpy.array([[{}, None]], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError, match="Python objects"):
        read_image(tmp_path / "image.npy")


def test_what_a_header_declares_is_bounded_before_anything_is_read() -> None:
    stream = io.BytesIO()
    head = {"descr": "<f8", "fortran_order": False, "shape": (100_000, 100_000)}
    numpy.lib.format.write_array_header_1_0(stream, head)
    with pytest.raises(TooManyPixelsError, match="safety limit"):
        decode_image(stream, "bomb.npy")
    with pytest.raises(TooManyPixelsError, match="safety limit"):
        stored_pixels(stream, "bomb.npy")


@pytest.mark.parametrize("left", [4, 20, 200])
def test_a_file_cut_short(left: int, tmp_path: Path) -> None:
    file = saved(tmp_path, values(20, 20, 4))
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(ImageError, match=r"image\.npy"):
        read_image(file, None, 4)


@pytest.mark.parametrize("augment", ["none", "flip", "shift", "crop"])
def test_geometry_changes_all_channels_alike(augment: str) -> None:
    plane = rng.random((30, 40))
    image = Bands(numpy.stack([plane, plane / 2, plane / 4, plane / 8], axis=2), "image")
    torch.manual_seed(3)
    found = train_transform(expects(4, size=(12, 16)), augment)(image)
    assert found.shape == (4, 12, 16)
    for channel in range(4):
        torch.testing.assert_close(found[channel] * 2**channel, found[0])


def test_tensors_are_resized_as_pictures_are() -> None:
    """Pillow rounds to 8 bits between its two passes."""
    array = values(40, 60, 3)
    for mode in ("bilinear", "bicubic"):
        preprocess = Preprocess((15, 20), (0.0,) * 3, (1.0,) * 3, mode)
        as_picture = eval_transform(preprocess)(Image.fromarray(array))
        as_bands = eval_transform(preprocess)(Bands(array / 255.0, "image"))
        torch.testing.assert_close(as_bands.clamp(0, 1), as_picture, rtol=0, atol=2.1 / 255)


@pytest.mark.parametrize("colours", [{"augment": "rand"}, {"colour_jitter": 0.4}])
def test_colours_of_many_channels_are_not_changed(colours: dict) -> None:
    with pytest.raises(ValueError, match="choose augment=none, flip, shift or crop"):
        train_transform(expects(4), **colours)
    with pytest.raises(ValueError, match="choose augment=none, flip, shift or crop"):
        train_transform(expects(3), **colours)(Bands(rng.random((6, 8, 3)), "image"))


def test_arrays_beside_pictures_are_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.fromarray(values(8, 8, 3)).save(tmp_path / name / f"{index}.png")
            numpy.save(tmp_path / name / f"{index}.npy", values(8, 8, 3))
    data = open_data(f"folder:{tmp_path}")
    assert all(name.endswith(".png") for split in data.splits.values() for name in split.names)
    assert "6 .npy files that lie among pictures are left out" in data.notes


def test_a_server_reads_arrays_within_its_limit_of_pixels() -> None:
    pytest.importorskip("fastapi")
    from vitrim.deploy.serving.decoding import Decoder
    from vitrim.deploy.serving.refusal import Refusal

    array, stream = values(6, 8, 12), io.BytesIO()
    numpy.save(stream, array)
    sent = ("the picture", stream.getvalue())
    decoder = Decoder(most_pixels=6 * 8 * 12 // 3)
    found = decoder.decode(sent, eval_transform(expects(12)))
    assert torch.equal(found, eval_transform(expects(12))(Bands(array, "image")))
    with pytest.raises(Refusal, match="is the 4 channels that the model takes"):
        decoder.decode(sent, eval_transform(expects(4)))
    with pytest.raises(Refusal, match="this server takes at most"):
        Decoder(most_pixels=6 * 8 * 12 // 3 - 1).decode(sent, eval_transform(expects(12)))
    decoder.close()
