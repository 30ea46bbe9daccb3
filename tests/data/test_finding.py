"""One notion of a picture: which files count, which decoders may look at them, and nothing that hangs."""

import ast
import io
import json
import os
import socket
from collections import Counter
from pathlib import Path

import numpy
import pytest
from PIL import EpsImagePlugin, Image
from reading import check_readers_end
from small_runs import colour_folder, small_run

import vitrim
from vitrim.data import ImageError, open_data, read_image
from vitrim.data.finding import ARRAY, ENDINGS, EXTENSIONS, FORMATS, is_picture, walk_pictures
from vitrim.data.images import decode_image

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def picture(file: Path, form: str = "PNG") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = numpy.random.default_rng(0).integers(0, 255, (16, 16, 3), numpy.uint8)
    Image.fromarray(pixels).save(file, form)


def test_image_files_are_opened_in_one_place_only() -> None:
    package = Path(vitrim.__file__).parent
    opening = {
        "Image.open",
        "image.imread",
        "pyplot.imread",
        "io.decode_image",
        "io.read_image",
        "cv2.imread",
    }
    places = []
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ".".join(ast.unparse(node.func).split(".")[-2:]) in opening:
                places.append((file.relative_to(package).as_posix(), [word.arg for word in node.keywords]))
    assert sorted(places) == [("data/band_files.py", ["formats"])] * 2 + [("data/images.py", ["formats"])]


@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"DIB"}))
def test_every_format_is_read_whatever_the_file_is_called(tmp_path: Path, form: str) -> None:
    for ending in (*ENDINGS[form], ".jpg", ".PNG"):
        picture(tmp_path / f"a{ending}", form)
        assert read_image(tmp_path / f"a{ending}").size == (16, 16)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".eps", ".tif"])
def test_postscript_reaches_no_other_program(tmp_path: Path, monkeypatch, ending: str) -> None:
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **more: ran.append(given))
    (tmp_path / f"cat{ending}").write_bytes(POSTSCRIPT)
    with pytest.raises(ImageError, match="is not an image in a format that Pillow can read"):
        read_image(tmp_path / f"cat{ending}")
    with pytest.raises(ImageError, match="is not an image"):
        decode_image(io.BytesIO(POSTSCRIPT), "bytes")
    assert not ran


@pytest.mark.parametrize(
    "name, counts",
    [
        ("a.JFIF", True),
        ("a.jpe", True),
        ("a.avif", True),
        ("a.WebP", True),
        ("a.b.tiff", True),
        ("._a.jpg", False),
        (".DS_Store", False),
        ("a.txt", False),
        ("jpg", False),
        ("a.eps", False),
    ],
)
def test_what_counts_as_a_picture(name: str, counts: bool) -> None:
    assert is_picture(name) is counts


def test_training_and_prediction_see_the_same_files(tmp_path: Path) -> None:
    from vitrim.runs.predict import list_pictures

    endings = [*sorted(EXTENSIONS), ".JPG", ".Jfif", ".txt", ".heic", ""]
    for name in ("ant", "bee"):
        for ending in endings:
            picture(tmp_path / name / f"a{ending}")
        for junk in ("._a.jpg", ".DS_Store", "__MACOSX/a.jpg", ".cache/a.png", "@eaDir/a.jpg"):
            picture(tmp_path / name / junk)
        picture(tmp_path / name / "deeper" / "b.png")
    trained = {name for split in open_data(f"folder:{tmp_path}").splits.values() for name in split.names}
    assert trained == {str(path) for path in list_pictures(tmp_path)}
    assert len(trained) == 2 * (len(EXTENSIONS - {ARRAY}) + 2 + 1)  # arrays beside pictures are none


def test_pictures_in_formats_that_are_not_read_are_told(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        for index in range(3):
            picture(tmp_path / name / f"{index}.png")
        (tmp_path / name / "photo.HEIC").write_bytes(b"x")
    (tmp_path / "ant" / "x.svg").write_bytes(b"x")
    notes = open_data(f"folder:{tmp_path}").notes
    assert any("are left out: 2 .heic, 1 .svg; convert them to PNG or JPEG" in note for note in notes)


def test_a_walk_gives_the_first_before_it_looks_at_the_last(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "0.png")
    picture(tmp_path / "b" / "1.png")
    walk = walk_pictures(tmp_path, Counter())
    assert next(walk).name == "0.png"
    (tmp_path / "b" / "1.png").rename(tmp_path / "b" / "2.png")
    assert next(walk).name == "2.png"


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "b").symlink_to(tmp_path / "a" / "c")
    (tmp_path / "a" / "c").symlink_to(tmp_path / "a" / "b")
    assert [path.name for path in walk_pictures(tmp_path)] == ["0.png"]


def unusual(folder: Path, kind: str) -> Path:
    place = folder / "x.png"
    if kind == "a named pipe":
        os.mkfifo(place)
    elif kind == "a socket":
        here = Path.cwd()
        os.chdir(folder)  # a socket's path may have 107 letters
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("x.png")
        os.chdir(here)
    elif kind == "a device":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    return place


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["a named pipe", "a socket", "a device", "a folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    place = unusual(tmp_path, kind)
    with pytest.raises(ImageError) as error:
        read_image(place)
    assert str(error.value) == f"{place} is {kind}, not an image"


@pytest.mark.timeout(60)
def test_data_with_a_named_pipe_is_looked_over_and_not_waited_for(tmp_path: Path, capsys) -> None:
    from vitrim.cli.main import main

    for name in ("ant", "bee"):
        for index in range(4):
            picture(tmp_path / name / f"{index}.png")
    os.mkfifo(tmp_path / "ant" / "pipe.jpg")
    assert main(["data", f"folder:{tmp_path}", "--check"]) == 2
    said = capsys.readouterr()
    assert "pipe.jpg is a named pipe, not an image" in said.out and "1 of 8" not in said.err
    assert "1 of 9 images cannot be read" in said.err


@pytest.mark.timeout(120)
@pytest.mark.parametrize("workers", [0, 2])
def test_training_goes_on_past_a_named_pipe(tmp_path: Path, workers: int) -> None:
    for split in ("train", "test"):
        colour_folder(tmp_path / "data" / split, per_class=4)
    pipe = tmp_path / "data" / "train" / "red" / "pipe.png"
    os.mkfifo(pipe)
    settings = {"epochs": 1, "workers": workers, "drop_last": False}
    run = small_run(tmp_path / "run", f"folder:{tmp_path / 'data'}", **settings)
    assert json.loads(run.folder.joinpath("history.jsonl").read_text())["bad_images"] == [str(pipe)]
    pipe.rename(tmp_path / "data" / "test" / "red" / "pipe.png")
    sentence = r"pipe.png is a named pipe, not an image"
    again = f"folder:{tmp_path / 'data'}"
    check_readers_end(lambda: small_run(tmp_path / "again", again, **settings), sentence)
    check_readers_end(lambda: vitrim.evaluate(run.folder, workers=workers, cpu=True), sentence)
