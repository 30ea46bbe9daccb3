"""A sweep and a search from their commands to their tables, with real runs, killed once and continued."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked_python import python
from small_runs import colour_folder

from vitrim.cli.main import main
from vitrim.sweep.found import find_runs
from vitrim.sweep.grouped import make_table

SWEEP = """
data: ["{data}"]
image_size: 32
recipes: [linear, {{name: ours, methods: ["LoRA(rank=2)", "EViT(keep=0.7, at=(1,))"]}}]
seeds: [0]
training: {{epochs: 2, batch_size: 8, workers: 0, warmup_epochs: 0}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "executable", python())
    data = colour_folder(tmp_path / "colours", per_class=10)
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(data=data))
    return tmp_path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "table.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def kill_after_the_first_run(folder: Path) -> None:
    """Start the sweep as its command, and kill it and the run it works on as soon as one run is finished."""
    command = [python(), "-m", "vitrim", "sweep", str(folder / "sweep.yaml"), "--cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    sweep = subprocess.Popen(
        [*command, f"--out={folder / 'out'}"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert sweep.stdout is not None
    for line in sweep.stdout:
        if line.startswith("[1/2]"):
            break
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()


def test_a_killed_sweep_goes_on_where_it_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kill_after_the_first_run(folder)
    before = rows(folder)
    assert [row["recipe"] for row in before] == ["linear", "ours"]
    assert before[0]["status"] == "finished"
    first = (folder / "out" / before[0]["folder"] / "run.json").read_text()

    command = ["sweep", str(folder / "sweep.yaml"), f"--out={folder / 'out'}", "--cpu"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "2 runs in" in said
    assert "1 finished before" in said
    assert "linear on" not in said  # not made again
    after = rows(folder)
    assert [row["status"] for row in after] == ["finished", "finished"]
    assert (folder / "out" / before[0]["folder"] / "run.json").read_text() == first
    assert all(0 <= float(row["accuracy"]) <= 1 and int(row["file_bytes"]) > 0 for row in after)

    table = make_table(find_runs(folder / "out"))
    assert [line.name for line in table.lines] == ["linear", "ours"]
    assert table.unfinished == 0
    refused = folder / "other.yaml"
    refused.write_text((folder / "sweep.yaml").read_text().replace("epochs: 2", "epochs: 3"))
    assert main(["sweep", str(refused), f"--out={folder / 'out'}", "--cpu"]) == 2
    assert "holds another run than the one asked for" in capsys.readouterr().err


def test_a_search_and_its_final_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "search", "--method=LoRA(rank=2)", f"--data=folder:{folder / 'colours'}", "--image_size=32",
        "--over=lr=1e-2", "--epochs=2", "--batch_size=8", "--workers=0", "--warmup_epochs=0",
        "--final", "--cpu", "--quiet", f"--out={folder / 'out'}",
    ]  # fmt: skip
    assert main(command) == 0
    assert "lr=0.01, trained on train and val, seed 42" in capsys.readouterr().out
    assert json.loads((folder / "out" / "chosen.json").read_text())["chosen"] == {"lr": 0.01}
    runs = find_runs(folder / "out")
    assert sorted(str(run.row["split"]) for run in runs) == ["test", "val"]
