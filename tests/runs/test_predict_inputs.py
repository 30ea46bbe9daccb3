"""Whatever a picture comes as, the prediction is the same; anything else is refused in a sentence."""

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import torch
from PIL import EpsImagePlugin, Image

import vitrim
from vitrim.cli.main import main
from vitrim.data import ImageError
from vitrim.network.model import StagedViT
from vitrim.runs.predict import predictions


@pytest.fixture(scope="module")
def model() -> StagedViT:
    model = vitrim.compose("vitrim_tiny_patch8_96", vitrim.LoRA(rank=2), num_classes=3)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # what is saved; the bundled backbone stays as it is
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
    model.classes = ("blue", "green", "red")
    return model


@pytest.fixture(scope="module")
def run(model: StagedViT, tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("saved") / "model.safetensors"
    vitrim.save(model, file)
    return str(file)


def pixels(seed: int = 0, size: tuple[int, ...] = (40, 30, 3)) -> numpy.ndarray:
    return numpy.random.default_rng(seed).integers(0, 256, size, numpy.uint8)


def write(file: Path, seed: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(file, "PNG")
    return file


def ways(file: Path) -> dict[str, object]:
    """One picture in every form it can be given in."""
    array, content = pixels(), file.read_bytes()
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    return {
        "text": str(file), "path": file, "folder": file.parent, "bytes": content,
        "bytearray": bytearray(content), "memoryview": memoryview(content),
        "stream": io.BytesIO(content), "opened": Image.open(file),
        "PIL": Image.fromarray(array), "array": array, "turned array": array[::-1][::-1], "tensor": tensor,
        "list": [file], "tuple": (array,), "generator": (image for image in [tensor]),
        "iterator": iter([content]),
        "with alpha": numpy.dstack([array, numpy.full(array.shape[:2], 255, numpy.uint8)]),
    }  # fmt: skip


def test_every_way_gives_the_same(model: StagedViT, tmp_path: Path) -> None:
    file = write(tmp_path / "in" / "a.png")
    expected = vitrim.predict(model, file, top=3)
    for name, given in ways(file).items():
        found = vitrim.predict(model, given, top=3)
        assert [guess[1:] for guess in found] == [guess[1:] for guess in expected], name
        assert found[0].path == (str(file) if name in ("text", "path", "folder", "list") else "image 0"), name


def test_grey_in_every_form(model: StagedViT, tmp_path: Path) -> None:
    grey = pixels(size=(40, 30))
    Image.fromarray(grey).save(tmp_path / "a.png")
    expected = vitrim.predict(model, tmp_path / "a.png")[0][1:]
    for given in (
        grey,
        grey[..., None],
        torch.from_numpy(grey),
        torch.from_numpy(grey)[None],
        Image.fromarray(grey),
    ):
        assert vitrim.predict(model, given)[0][1:] == expected


def test_the_camera_s_turn_is_applied_to_opened_images_too(model: StagedViT, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels()).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        assert vitrim.predict(model, opened)[0][1:] == vitrim.predict(model, tmp_path / "a.png")[0][1:]


def test_a_mixed_list_keeps_its_order(model: StagedViT, tmp_path: Path) -> None:
    file = write(tmp_path / "a.png", seed=1)
    found = vitrim.predict(model, [pixels(0), file, pixels(2), file], batch_size=2)
    assert [guess.path for guess in found] == ["image 0", str(file), "image 2", str(file)]
    alone = [vitrim.predict(model, given)[0] for given in (pixels(0), file, pixels(2), file)]
    assert [guess.name for guess in found] == [guess.name for guess in alone]
    numpy.testing.assert_allclose([guess[2] for guess in found], [guess[2] for guess in alone], atol=1e-5)


@pytest.mark.parametrize(
    "given, sentence",
    [
        (None, "images cannot be None; predict takes paths"),
        (3, "images cannot be an int; predict takes"),
        ({"a": 1}, "images cannot be a dict"),
        ([3], "image 0 is an int; predict takes"),
        ([[pixels()]], "image 0 is a list; predict takes"),
        ([(Image.fromarray(pixels()), 1)], "image 0 is a tuple"),
        ([], "no images were given"),
        (iter(()), "no images were given"),
        (
            pixels().astype(float),
            "an array [40, 30, 3] of float64; give [height, width, 3] or [height, width] of uint8",
        ),
        (pixels().transpose(2, 0, 1), "channels stand first in tensors and last in arrays"),
        (pixels()[None], "several at once go into a list"),
        (numpy.zeros((0, 4, 3), numpy.uint8), "an array [0, 4, 3] of uint8"),
        (numpy.array(["a.png"]), "an array [1] of <U5"),
        (torch.rand(3, 8, 8), "a tensor [3, 8, 8] of float32; give [3, height, width]"),
        (torch.zeros(2, 3, 8, 8), "a batch that is normalised already goes to the model itself"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), "channels stand first in tensors"),
        (torch.zeros((), dtype=torch.uint8), "a tensor [] of uint8"),
        (io.StringIO("x"), "image 0 is a file opened as text; open it with mode 'rb'"),
        (b"", "image 0 is empty (0 bytes)"),
        (b"<html>", "image 0 is not an image in a format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "image 0 is not an image in a format"),
        (b"P6 60000 60000 255\n", "image 0 has more pixels than Pillow's safety limit"),
        ("", "is a folder, not an image|holds no pictures|there is no image"),
        ("a\0b.png", "cannot be opened|there is no image"),
        ("x" * 5000, "cannot be opened|there is no image"),
    ],
)
def test_everything_else_is_refused_in_a_sentence(
    model: StagedViT, given: object, sentence: str, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        vitrim.predict(model, given)
    assert any(part in str(error.value) for part in sentence.split("|")) and "\n" not in str(error.value)


def test_an_opened_postscript_is_not_decoded(model: StagedViT, monkeypatch) -> None:
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **more: ran.append(given))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(ImageError, match="opened from a EPS file, which vitrim does not decode"):
        vitrim.predict(model, Image.open(io.BytesIO(content)))
    assert not ran


@pytest.mark.parametrize("form", ["path", "bytes", "opened"])
def test_a_picture_cut_short_is_refused_in_every_form(model: StagedViT, tmp_path: Path, form: str) -> None:
    file = write(tmp_path / "a.png")
    file.write_bytes(file.read_bytes()[:1500])
    given = {"path": file, "bytes": file.read_bytes(), "opened": Image.open(file)}[form]
    with pytest.raises(ImageError, match="is damaged or cut short") as error:
        vitrim.predict(model, given)
    assert "\n" not in str(error.value)


def test_results_come_while_images_are_still_being_made(model: StagedViT) -> None:
    made = []

    def images() -> Iterator[numpy.ndarray]:
        for number in range(10_000):
            made.append(number)
            yield pixels(number)

    found = predictions(model, images(), batch_size=64)
    assert next(found)[0].path == "image 0" and len(made) <= 8
    for _ in range(20):
        next(found)
    assert len(made) <= 64
    found.close()


def test_a_folder_of_many_begins_at_once(model: StagedViT, tmp_path: Path, monkeypatch) -> None:
    content = write(tmp_path / "a" / "0.png").read_bytes()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir(exist_ok=True)
        for number in range(300):
            (tmp_path / folder / f"{number}.png").write_bytes(content)
    looked = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (looked.append(str(path)), scandir(path))[1])
    found = predictions(model, tmp_path)
    assert next(found)[0].path == str(tmp_path / "a" / "0.png")
    assert str(tmp_path / "b") not in looked


def test_what_came_before_a_broken_picture_is_given(model: StagedViT, tmp_path: Path) -> None:
    for number in range(6):
        write(tmp_path / f"{number}.png", number)
    (tmp_path / "2.png").write_bytes(b"broken")
    found, seen = predictions(model, tmp_path, batch_size=4), []
    with pytest.raises(ImageError, match=r"2.png is not an image"):
        seen.extend(best[0].path for best in found)
    assert [path[-5:] for path in seen] == ["0.png", "1.png"]
    broken: list[str] = []
    assert len(list(predictions(model, tmp_path, broken=broken))) == 5
    assert len(broken) == 1 and "2.png is not an image" in broken[0]


def test_the_model_stays_in_the_mode_it_was_in(model: StagedViT) -> None:
    model.train()
    vitrim.predict(model, pixels())
    assert model.training
    model.eval()
    vitrim.predict(model, pixels())
    assert not model.training


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for number in range(3):
        for name in ("blue", "red", "unknown/deep"):
            write(tmp_path / "in" / name / f"{number}.png", number)
    write(tmp_path / "in" / "red" / "._0.png")
    return tmp_path / "in"


def test_csv_of_class_folders(run: str, folders: Path, tmp_path: Path, capsys) -> None:
    assert main(["predict", run, str(folders), "--csv", str(tmp_path / "p.csv"), "--top", "2"]) == 0
    said = capsys.readouterr()
    with (tmp_path / "p.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 9 * 2 and list(rows[0]) == ["path", "truth", "rank", "class", "probability"]
    assert {Path(row["path"]).parent.name: row["truth"] for row in rows} == {
        "blue": "blue",
        "red": "red",
        "deep": "",
    }
    assert [row["rank"] for row in rows] == ["1", "2"] * 9
    first = [row for row in rows if row["rank"] == "1"]
    right = sum(row["class"] == row["truth"] for row in first)
    assert f"of 6 pictures in folders named after classes, {right} ({100 * right / 6:.2f} %)" in said.err
    expected = {guess.path: guess for guess in vitrim.predict(run, folders)}
    for row in first:
        assert expected[row["path"]].name == row["class"]
        assert float(row["probability"]) == pytest.approx(expected[row["path"]].probability, abs=1e-5)
    assert said.out == f"9 pictures: {tmp_path / 'p.csv'}\n" and not list(tmp_path.glob("*.part"))


def test_json_on_the_screen(run: str, folders: Path, capsys) -> None:
    assert main(["predict", run, str(folders / "red"), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(entry["path"]).name for entry in found] == ["0.png", "1.png", "2.png"]
    assert {entry["truth"] for entry in found} == {"red"}
    assert all(0 < guess["probability"] <= 1 for entry in found for guess in entry["predictions"])


def test_names_that_cannot_be_printed_stay_on_one_line(run: str, tmp_path: Path, capsys) -> None:
    write(tmp_path / "a\nb\t.png")
    write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")))
    assert main(["predict", run, str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(len(line.split("\t")) == 3 for line in lines)


def test_broken_pictures_in_a_folder(run: str, folders: Path, tmp_path: Path, capsys) -> None:
    (folders / "blue" / "1.png").write_bytes(b"broken")
    assert main(["predict", run, str(folders), "--csv", str(tmp_path / "p.csv")]) == 2
    said = capsys.readouterr().err
    assert "1.png is not an image" in said and "what was predicted before is in" in said
    assert not (tmp_path / "p.csv").exists()
    assert len((tmp_path / "p.csv.part").read_text().splitlines()) == 2  # the header and blue/0.png
    assert main(["predict", run, str(folders), "--csv", str(tmp_path / "p.csv"), "--skip_broken"]) == 2
    assert "1 pictures cannot be read; they are listed above" in capsys.readouterr().err
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 9


@pytest.mark.parametrize(
    "more, sentence",
    [
        (["--csv", "a", "--json", "b"], "--csv and --json are two ways to write the same; give one of them"),
        (["--csv", "HERE"], "cannot write 'HERE': is a folder"),
        (["nowhere.png"], "there is no image nowhere.png"),
        (["--top", "4"], "top must be between 1 and the number of classes (3), got 4"),
        (["--top", "0"], "top must be between 1 and the number of classes (3), got 0"),
        (["--batch_size", "0"], "batch_size must be a whole number of at least 1, got 0"),
    ],
)
def test_refusals_of_the_command(run: str, folders: Path, capsys, more: list[str], sentence: str) -> None:
    more = [word.replace("HERE", str(folders)) for word in more]
    assert main(["predict", run, str(folders), *more]) == 2
    said = capsys.readouterr()
    assert sentence.replace("HERE", str(folders)) in said.err and said.out == ""
