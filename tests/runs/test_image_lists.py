"""Images by name: files, folders, lists, patterns and data sets, in one order, or a sentence."""

import pickle
from pathlib import Path

import numpy
import pytest
from PIL import Image

from vitrim.runs.image_lists import each_path, named_images


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b/2.png", "b/1.png", "a/3.png", "a/.hidden.png", "a/notes.txt", "z.png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        if file.suffix == ".png":
            Image.new("RGB", (4, 4)).save(file)
        else:
            file.write_text("3.png\r\n\n  \n../b/1.png\ngone.png\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["b"], ["b/1.png", "b/2.png"]),
        (["z.png", "b"], ["z.png", "b/1.png", "b/2.png"]),
        (["*/*.png"], ["a/3.png", "b/1.png", "b/2.png"]),
        (["**/*"], ["a/3.png", "b/1.png", "b/2.png", "z.png"]),
        (["[ab]"], ["a/3.png", "b/1.png", "b/2.png"]),
        (["a/notes.txt"], ["a/3.png", "a/../b/1.png", "a/gone.png"]),
    ],
)
def test_names_come_in_one_order(given: list[str], found: list[str], place: Path) -> None:
    assert list(named_images(given).names()) == found


def test_a_file_with_a_pattern_in_its_name_is_itself(place: Path) -> None:
    (place / "z.png").rename(place / "z[1].png")
    assert [str(path) for path in each_path(["z[1].png"])] == ["z[1].png"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nowhere"], "there is no image nowhere"),
        (["x*.png"], "no picture matches 'x\\*.png'"),
        (["empty.txt"], r"empty.txt lists no images; write one path a line"),
        (
            ["gone.txt"],
            "gone.txt lists no file that is there, at least not in its first 2 lines",
        ),
        (["hf:a/b", "z.png"], "hf: names a whole data set; give it alone"),
        ([], "no images were given"),
    ],
)
def test_refused_in_a_sentence(given: list[str], said: str, place: Path) -> None:
    (place / "empty.txt").write_text("\n")
    (place / "gone.txt").write_text("x.png\ny.png\n")
    with pytest.raises((ValueError, OSError), match=said):
        list(named_images(given).names())


def test_a_reader_keeps_its_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = named_images(["b"])
    monkeypatch.chdir("/")
    read = pickle.loads(pickle.dumps(found.read))
    assert read("b/1.png").size == (4, 4)


def test_a_data_set_without_labels(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pictures = [Image.fromarray(numpy.full((5, 6, 3), shade, numpy.uint8)) for shade in (10, 200)]
    features = datasets.Features({"picture": datasets.Image(), "age": datasets.Value("int32")})
    data = datasets.Dataset.from_dict({"picture": pictures, "age": [1, 2]}, features)
    datasets.DatasetDict({"test": data}).save_to_disk(str(tmp_path / "set"))
    found = named_images([f"hf:{tmp_path / 'set'}"])
    assert list(found.names()) == ["test/0", "test/1"]
    read = pickle.loads(pickle.dumps(found.read))
    assert read("test/1").getpixel((0, 0)) == (200, 200, 200)
    with pytest.raises(ValueError, match="has no split 'train'; it has: test"):
        named_images([f"hf:{tmp_path / 'set'}?split=train"])
