"""Run folders and files that earlier versions wrote go on loading, evaluating and resuming."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from small_runs import colour_folder

import vitrim
from vitrim.cli.main import main

VERSIONS = Path(__file__).parents[1] / "data_of_versions"
# What the version that wrote the file gave for the images of `test_a_saved_model_computes_the_same`.
LOGITS = [[-0.12220, 0.64286, 0.81754], [0.96061, 0.86944, 0.80271]]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Writable copies of the runs of 2026-11-21 and the pictures they were trained on."""
    colour_folder(tmp_path / "colours", per_class=6)
    shutil.copytree(VERSIONS / "2026-11-21", tmp_path, dirs_exist_ok=True)
    for record in tmp_path.glob("*/run.json"):
        record.write_text(record.read_text().replace("ROOT", str(tmp_path)))
    return tmp_path


def test_a_saved_model_computes_the_same(runs: Path) -> None:
    model = vitrim.load(runs / "finished" / "model.safetensors").eval()
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(images), torch.tensor(LOGITS), rtol=0, atol=1e-4)


def test_a_finished_run_is_evaluated(runs: Path) -> None:
    recorded = json.loads((runs / "finished" / "run.json").read_text())["results"]
    found = vitrim.evaluate(runs / "finished", cpu=True)
    assert found.images == recorded["images"]
    assert found.top1 == recorded["top1"]
    assert found.loss == pytest.approx(recorded["loss"], abs=1e-4)


def test_a_stopped_run_is_resumed(runs: Path) -> None:
    whole = (runs / "finished" / "history.jsonl").read_text().splitlines()
    assert main(["train", "--resume", "--out", str(runs / "stopped"), "--cpu"]) == 0
    resumed = (runs / "stopped" / "history.jsonl").read_text().splitlines()
    assert len(resumed) == len(whole) == 2
    assert resumed[0] == whole[0]
    first, second = json.loads(resumed[1]), json.loads(whole[1])
    assert first["train_loss"] == pytest.approx(second["train_loss"], abs=1e-4)
    assert first["val_loss"] == pytest.approx(second["val_loss"], abs=1e-4)


def test_what_is_in_them_is_shown(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = next((runs / "colours" / "blue").iterdir())
    assert main(["predict", str(runs / "finished"), str(picture)]) == 0
    assert main(["report", str(runs / "finished")]) == 0
    assert "blue" in capsys.readouterr().out
    assert (runs / "finished" / "report.html").is_file()
