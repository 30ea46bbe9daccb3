"""What a run says before and while it trains: length, rate, what regularises, how long it takes."""

from pathlib import Path

import pytest
from small_runs import colour_folder

from vitrim.cli.main import main
from vitrim.runs.folder import RunFolder
from vitrim.training import progress
from vitrim.training.progress import Progress


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return colour_folder(tmp_path_factory.mktemp("colours"))


def test_length_rate_size_and_time_stand_before_the_first_epoch(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model=test_vit", "--image_size=48", "--recipe=lora", "--batch_size=8", "--cpu"]
    assert main(["train", f"--data={data}", f"--out={tmp_path / 'run'}", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("epoch"))
    opening = "\n".join(lines[:first])
    record = RunFolder(tmp_path / "run").record()
    settings = record["settings"]["training"]
    assert "48 x 48 pixels" in opening
    assert f"length    30 epochs (chosen for {record['data']['images']['train']} images)" in opening
    assert f"lr {settings['lr']:g} (chosen for" in opening
    assert "drop_path 0.1: against overfitting" in opening
    assert "expected  about " in opening
    assert "left" in lines[first]
    assert set(record["chosen"]) == {"epochs", "lr"}
    assert settings["epochs"] == 30 == len(RunFolder(tmp_path / "run").history())


def test_a_resumed_run_keeps_what_was_chosen(tmp_path: Path, data: str) -> None:
    options = ["--model=test_vit", "--image_size=48", "--recipe=lora", "--batch_size=8", "--cpu", "--quiet"]
    assert main(["train", f"--data={data}", f"--out={tmp_path / 'run'}", "--epochs=1", *options]) == 0
    before = RunFolder(tmp_path / "run").record()
    assert main(["train", "--resume", f"--out={tmp_path / 'run'}", "--lr=auto", "--cpu", "--quiet"]) == 0
    assert RunFolder(tmp_path / "run").record()["settings"] == before["settings"]
    assert main(["train", "--resume", f"--out={tmp_path / 'run'}", "--lr=0.5", "--cpu", "--quiet"]) == 2


def test_the_expected_time_is_that_of_all_epochs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 10))  # every look at the clock is 10 s after the one before
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    shown = Progress(epochs=6, steps=50)
    for step in range(10):
        shown.pace(0, step)
    assert capsys.readouterr().out.count("about 50 min of training, by the first 4 batches") == 1
