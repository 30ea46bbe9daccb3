"""evaluate measures where training measured, and says which images those are."""

from pathlib import Path

import pytest
from PIL import Image
from small_runs import colour_folder

from vitrim import evaluate
from vitrim.cli.main import main
from vitrim.training.loop import Run, train


def small_run(out: Path, data: str, **training: object) -> Run:
    settings = {"epochs": 1, "batch_size": 8, **training}
    return train(
        methods=["Linear()"], data=data, out=out, training=settings, image_size=32, cpu=True, quiet=True
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """train and val, no test."""
    place = tmp_path_factory.mktemp("colours")
    colour_folder(place / "train", per_class=6)
    colour_folder(place / "val", per_class=3)
    return place


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory) -> Run:
    return small_run(tmp_path_factory.mktemp("run") / "out", f"folder:{folder}")


def test_a_run_without_test_images_is_measured_on_val_again(run: Run, folder: Path, capsys) -> None:
    assert run.record["results"]["split"] == "val"
    assert (
        evaluate(run.folder, cpu=True, batch_size=8)
        == run.metrics
        == evaluate(run.folder, split="val", cpu=True, batch_size=8)
    )
    assert (
        evaluate(run.folder / "model.safetensors", f"folder:{folder}", cpu=True, batch_size=8) == run.metrics
    )


def test_the_command_says_so(tmp_path: Path, folder: Path, capsys) -> None:
    command = [
        "train",
        "--data",
        f"folder:{folder}",
        "--method",
        "Linear()",
        "--epochs",
        "1",
        "--image_size",
        "32",
    ]
    command += ["--image_size", "32", "--batch_size", "8"]
    assert main([*command, "--out", str(tmp_path / "r"), "--cpu", "--quiet"]) == 0
    trained = capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "r"), "--cpu"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"val (folder:{folder} has no test split): ")
    assert said.split("): ")[1].split(" %")[0] == trained.split("val: ")[1].split(" %")[0]
    assert main(["evaluate", str(tmp_path / "r"), "--cpu", "--split", "test"]) == 2
    assert "has no 'test' split; it has: train, val, trainval" in capsys.readouterr().err


def test_images_that_were_trained_on_are_not_taken(folder: Path, tmp_path: Path) -> None:
    colour_folder(tmp_path / "test", per_class=2)
    for part in ("train", "val"):
        (tmp_path / part).symlink_to(folder / part)
    trained = small_run(tmp_path / "out", f"folder:{tmp_path}", train_split="trainval")
    for file in (tmp_path / "test").rglob("*.png"):
        file.unlink()
    for place in (tmp_path / "test").iterdir():
        place.rmdir()
    (tmp_path / "test").rmdir()
    with pytest.raises(ValueError, match="would be measured on val images, on which it is trained"):
        evaluate(trained.folder, cpu=True)


def test_a_test_folder_of_one_class_is_measured(folder: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / part).symlink_to(folder / part)
    (tmp_path / "test" / "red").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (24, 24), (210, 50, 40)).save(tmp_path / "test" / "red" / f"{number}.png")
    found = small_run(tmp_path / "out", f"folder:{tmp_path}")
    assert found.record["results"]["split"] == "test" and found.metrics.images == 4
    assert found.metrics.top1 == found.metrics.mean_per_class
    assert evaluate(found.folder, cpu=True, batch_size=8) == found.metrics
