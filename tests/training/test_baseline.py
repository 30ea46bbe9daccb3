"""The linear probe beside a run, under equal settings."""

from pathlib import Path

import pytest
from small_runs import METHODS, colour_folder

from vitrim.cli.main import main
from vitrim.runs.folder import RunFolder
from vitrim.training.baseline import FOLDER


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return colour_folder(tmp_path_factory.mktemp("colours"))


def command(data: str, out: Path, *more: str) -> list[str]:
    methods = [f"--method={text}" for text in METHODS]
    start = ["train", "--model=test_vit", f"--data={data}", "--image_size=48", f"--out={out}", "--cpu"]
    return [*start, *methods, "--batch_size=8", "--with_baseline", *more]


def test_both_are_trained_alike_and_compared(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ("--epochs=2", "--drop_path=0.1", "--label_smoothing=0.1", "--seed=3", "--quiet")
    assert main(command(data, tmp_path / "run", *changes)) == 0
    said = capsys.readouterr().out
    run, probe = (RunFolder(tmp_path / "run" / place).record() for place in ("", FOLDER))
    ours, theirs = run["settings"]["training"], probe["settings"]["training"]
    assert {name for name in ours if ours[name] != theirs[name]} == {"lr", "drop_path"}
    assert theirs["drop_path"] == 0.0
    assert set(run["chosen"]) == set(probe["chosen"]) == {"lr"}
    assert probe["settings"]["methods"] == []
    assert "linear probing gets" in said
    assert "McNemar's exact test" in said
    assert "drop_path 0.1 against 0" in said
    assert (
        main(["train", "--resume", f"--out={tmp_path / 'run'}", "--with_baseline", "--cpu", "--quiet"]) == 0
    )
    assert "McNemar's exact test" in capsys.readouterr().out


def test_a_given_rate_is_the_probes_too(tmp_path: Path, data: str) -> None:
    assert main(command(data, tmp_path / "run", "--epochs=1", "--lr=0.004", "--quiet")) == 0
    assert RunFolder(tmp_path / "run" / FOLDER).record()["settings"]["training"]["lr"] == 0.004


def test_a_probe_beside_a_probe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe=linear", "--with_baseline", f"--out={tmp_path / 'run'}"]) == 2
    assert "linear probe itself" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
