"""Which pictures a run was tested on is told by what is in the files, not by what they are called."""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from small_runs import colour_folder

from vitrim.cli.main import main
from vitrim.data import open_data
from vitrim.runs.tested import TestedPictures, differs, digest_of


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    colour_folder(tmp_path / "pictures", per_class=6)
    return tmp_path / "pictures"


def digest(folder: Path) -> str:
    return digest_of(open_data(f"folder:{folder}"), "test")


def test_a_copy_elsewhere_is_the_same(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "moved")
    assert digest(tmp_path / "moved") == digest(pictures)


def test_other_pictures_under_the_same_names_are_others(pictures: Path, tmp_path: Path) -> None:
    before = digest(pictures)
    for file in pictures.rglob("*.png"):
        Image.new("RGB", (24, 24), (9, 9, 9)).save(file)
    assert digest(pictures) != before


def test_digests_of_names_alone_are_not_compared(pictures: Path) -> None:
    source = open_data(f"folder:{pictures}")
    assert differs(TestedPictures("test", "content:0", (True,)), source, "test")
    assert not differs(TestedPictures("test", "0" * 64, (True,)), source, "test")
    assert not differs(TestedPictures("test", digest_of(source, "test"), (True,)), source, "test")
    assert not differs(None, source, "test")


def test_evaluate_says_that_the_pictures_changed(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(pictures.parent / "run")
    train = ["train", f"--data=folder:{pictures}", f"--out={out}", "--recipe=linear", "--epochs=1"]
    assert main([*train, "--batch_size=4", "--image_size=32", "--cpu", "--quiet"]) == 0
    assert main(["evaluate", out, "--cpu"]) == 0
    assert "not the test pictures" not in capsys.readouterr().err
    for file in pictures.rglob("*.png"):
        Image.new("RGB", (24, 24), (9, 9, 9)).save(file)
    assert main(["evaluate", out, "--cpu"]) == 0
    assert "not the test pictures that the run was tested on" in capsys.readouterr().err
