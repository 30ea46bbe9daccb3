"""Retrieval on the command line: train, evaluate, predict, index and find on toy pictures; refusals."""

import json
import re
from pathlib import Path

import pytest
from small_captions import write_captions

from vitrim.cli.main import main

Captured = pytest.CaptureFixture[str]
SMALL = [
    "--method", "Bipartite(at=(2,))", "--image_size", "32", "--epochs", "1", "--batch_size", "6", "--workers",
    "0", "--cpu", "--quiet",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captions(tmp_path_factory.mktemp("captioned") / "data", count=10)


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    out = data.parent.parent / "run"
    assert main(["train", "--data", f"retrieval:{data}", "--out", str(out), *SMALL]) == 0
    return out


def test_a_run_is_measured_both_ways(run: Path, capsys: Captured) -> None:
    assert main(["evaluate", str(run), "--cpu", "--workers", "0"]) == 0
    assert "test: R@1/5/10 image to text" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--split", "train", "--json", "--cpu", "--workers", "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 6 and found["texts"] == 12 and found["task"] == "retrieval"
    assert main(["train", "--resume", "--out", str(run), "--epochs", "9"]) == 2
    assert "leave out epochs" in capsys.readouterr().err


def test_training_says_what_trains_in_each_tower(data: Path, tmp_path: Path, capsys: Captured) -> None:
    loud = [*SMALL[:-1], "--method", "LoRA(rank=1)"]
    assert main(["train", "--data", f"retrieval:{data}", "--out", str(tmp_path / "run"), *loud]) == 0
    told = capsys.readouterr().out
    assert re.search(r"trains: vision [1-9][\d,]*, text [1-9][\d,]*, projections and heads ", told)
    assert "data: 12 captions of 6 pictures" in told and "epoch 1/1: loss" in told


def test_pictures_find_captions_and_captions_pictures(run: Path, data: Path, capsys: Captured) -> None:
    asked = [
        "predict",
        str(run),
        str(data.parent / "images"),
        "--text",
        "a red disc",
        "--text",
        "a blue disc",
    ]
    assert main([*asked, "--device", "cpu"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 10 and {text for _, text, _ in lines} <= {"a red disc", "a blue disc"}
    assert main([*asked, "--by", "text", "--top", "3", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["text"] for row in rows] == ["a red disc"] * 3 + ["a blue disc"] * 3
    assert rows[0]["cosine"] >= rows[1]["cosine"] and Path(rows[0]["image"]).is_file()


def test_a_folder_is_indexed_once_and_words_find_in_it(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["index", str(data.parent / "images"), "--model", str(run), "--device", "cpu"]) == 0
    assert "10 pictures: gallery.safetensors" in capsys.readouterr().out
    assert main(["find", "a red disc", "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(line.startswith("a red disc\t") for line in lines)
    assert main(["find", "a red disc", "--top", "0"]) == 2
    assert "top must be a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "--task", "retrieval"], "give --data retrieval:FILE"),
        (["train", "--data", "digits", "--text", "words"], "--text is for image-text retrieval"),
        (["train", "--data", "retrieval:x.json", "--recipe", "lora"], "--recipe has no meaning for pictures"),
        (["train", "--data", "retrieval:x.json", "--patch_size", "8"], "--patch_size has no meaning"),
        (["train", "--data", "retrieval:x.json", "--taps", "[1]"], "--taps has no meaning for pictures with"),
        (["train", "--data", "retrieval:x.json", "--mixup", "0.2"], "no use for the setting mixup"),
        (["train", "--data", "retrieval:x.json"], "is not there; give a file of captions"),
        (["find", "a boat", "--gallery", "nothing"], "make one with vitrim index"),
        (["index", ".", "--model", "nothing"], "give the folder of a finished retrieval run"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    arguments: list[str], sentence: str, capsys: Captured
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1


def test_no_option_is_passed_over_in_silence(run: Path, capsys: Captured) -> None:
    for arguments in (
        ["evaluate", str(run), "--unreduced"],
        ["evaluate", str(run), "--precision", "bf16"],
        ["evaluate", str(run), "--budget", "0.5"],
        ["predict", str(run), str(run), "--text", "a disc", "--overlay"],
        ["predict", str(run), str(run), "--text", "a disc", "--native", "16"],
    ):
        assert main(arguments) == 2, arguments
        option = next(part for part in reversed(arguments) if part.startswith("--"))
        assert f"{option} has no meaning for pictures with captions" in capsys.readouterr().err, arguments


def test_other_verbs_say_what_a_retrieval_run_is_for(run: Path, capsys: Captured) -> None:
    for verb in (["report"], ["export", "--to", "onnx"]):
        assert main([*verb, str(run)]) == 2
        assert "is a run of image-text retrieval" in capsys.readouterr().err
    assert main(["predict", str(run), str(run)]) == 2
    assert "give --text" in capsys.readouterr().err
