"""Two processes train like one, whoever starts or resumes a run; images that fill up a batch are not counted.

One launch of two processes makes all the runs that need two; it takes most of the time here.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_python import python
from small_runs import colour_folder, same, small_run, weights
from small_tables import table_of_labels, table_of_numbers

from vitrim.cli.main import main
from vitrim.runs.folder import RunFolder
from vitrim.settings.training import Training

PLAIN = {"augment": "flip", "lr": 1e-2, "epochs": 2}  # random images, but nothing random inside the model
METHODS = {"lora": ["LoRA(rank=2)", "EViT(keep=0.7, at=(1, 2))"], "fisher": ["FisherDelta(top=1.0)"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {**PLAIN, "accumulate": 2, "clip_grad": 1.0, "ema": 0.5},
    "fisher": {**PLAIN, "optimizer": "sgd"},
}
COMMAND = ["train", "--model=test_vit", "--image_size=48", "--method=LoRA(rank=2)", "--cpu", "--quiet"]
COMMAND += ["--epochs=1", "--lr=0.01", "--batch_size=8", "--select=best-on-test"]


TASKS: dict[str, dict[str, Any]] = {
    "weighted": {**PLAIN, "class_weights": "balanced"},
    "sampled": {**PLAIN, "sampler": "balanced"},
    "labels": {**PLAIN, "class_weights": "balanced"},
    "numbers": {**PLAIN, "regression_loss": "huber"},
}


def make_data(folder: Path) -> dict[str, str]:
    """The data of each of TASKS: classes of 16, 16 and 4 images, and two tables."""
    uneven = colour_folder(folder / "uneven")
    for index in range(4, 16):
        (folder / "uneven" / "red" / f"{index}.png").unlink()
    labels, numbers = table_of_labels(folder / "labels"), table_of_numbers(folder / "numbers")
    return {"weighted": uneven, "sampled": uneven, "labels": labels, "numbers": numbers}


class Stopped(Exception):
    """Ends a run after its first epoch."""


def stopped_run(out: Path, data: str) -> None:
    """A run of LoRA that stops in its second epoch."""
    rate = Training.learning_rate

    def stop(self: Training, progress: float) -> float:
        if progress > 1.4:
            raise Stopped
        return rate(self, progress)

    Training.learning_rate = stop  # type: ignore[method-assign]
    try:
        small_run(out, data, methods=METHODS["lora"], **SETTINGS["lora"])
    except Stopped:
        pass
    finally:
        Training.learning_rate = rate  # type: ignore[method-assign]


def runs_of_two(folder: Path, data: str) -> None:
    """What each of the two processes does."""
    for name, methods in METHODS.items():
        small_run(folder / f"two-{name}", data, methods=methods, **SETTINGS[name])
    for name, spec in json.loads((folder / "data.json").read_text()).items():
        small_run(folder / f"two-{name}", spec, methods=METHODS["lora"], **TASKS[name])
    stopped_run(folder / "two-then-one", data)
    small_run(folder / "one-then-two", data, methods=METHODS["lora"], resume=True, **SETTINGS["lora"])
    assert main([*COMMAND, f"--data={data}", f"--out={folder / 'two-command'}"]) == 0
    try:
        small_run(folder / "odd", data, batch_size=9)
    except ValueError as error:
        (folder / f"refused-{os.environ['RANK']}").write_text(str(error))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folder of all runs: "two-lora" by two processes, "one-lora" by one, ..."""
    folder = tmp_path / "runs"
    folder.mkdir()
    data = colour_folder(folder / "colours")
    specs = make_data(folder)
    (folder / "data.json").write_text(json.dumps(specs))
    stopped_run(folder / "one-then-two", data)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    launch = [python(), "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, __file__, str(folder), data],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    for name, methods in METHODS.items():
        small_run(folder / f"one-{name}", data, methods=methods, **SETTINGS[name])
    for name, spec in specs.items():
        small_run(folder / f"one-{name}", spec, methods=METHODS["lora"], **TASKS[name])
    assert main([*COMMAND, f"--data={data}", f"--out={folder / 'one-command'}"]) == 0
    small_run(folder / "two-then-one", data, methods=METHODS["lora"], resume=True, **SETTINGS["lora"])
    return folder


PAIRS = (
    ("one-lora", "two-lora"),
    ("one-fisher", "two-fisher"),
    ("one-command", "two-command"),
    ("one-weighted", "two-weighted"),
    ("one-sampled", "two-sampled"),
    ("one-labels", "two-labels"),
    ("one-numbers", "two-numbers"),
    ("one-lora", "two-then-one"),
    ("one-lora", "one-then-two"),
)


def test_the_number_of_processes_changes_nothing(runs: Path) -> None:
    """In one test, because the runs take long and would be made again by every worker that meets one."""
    for one, other in PAIRS:
        check_alike(runs, one, other)
    chosen = [RunFolder(runs / name).record()["chosen_methods"] for name in ("one-fisher", "two-fisher")]
    assert chosen[0] == chosen[1]
    assert not same(weights(runs / "one-lora"), weights(runs / "one-fisher"))
    for rank in (0, 1):
        assert "batch_size 9 cannot be shared evenly by 2 processes" in (runs / f"refused-{rank}").read_text()
    assert not (runs / "odd").exists()


def check_alike(runs: Path, one: str, other: str) -> None:
    pair = f"{one} and {other}"
    first, second = (RunFolder(runs / name) for name in (one, other))
    assert len(first.history()) == len(second.history()), pair
    for mine, theirs in zip(first.history(), second.history(), strict=True):
        for name in mine.keys() - {"seconds"}:
            tolerance = 0.0 if name.endswith(("top1", "class")) else 1e-5
            assert theirs[name] == pytest.approx(mine[name], rel=tolerance, abs=tolerance), f"{pair}: {name}"
    results = [json.loads(folder.record_file.read_text())["results"] for folder in (first, second)]
    for name in ("top1", "mean_per_class", "images", "epoch", "select", "mark"):
        assert results[0].get(name) == results[1].get(name), f"{pair}: {name}"
    if one.removeprefix("one-") not in TASKS:
        assert results[0]["images"] == 9, pair  # not a multiple of the batch: the second process pads
    values, others = weights(first.path), weights(second.path)
    for name, value in values.items():
        close = torch.allclose(others[name], value, rtol=1e-3, atol=1e-5)
        assert close, f"{pair}: {name} differs by {(others[name] - value).abs().max()}"


if __name__ == "__main__":
    runs_of_two(Path(sys.argv[1]), sys.argv[2])


def test_torchrun_as_the_docs_write_it_joins_the_processes_on_cpus(tmp_path: Path) -> None:
    data = colour_folder(tmp_path / "colours", per_class=8)
    launch = [
        python(),
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "vitrim",
    ]
    done = subprocess.run(
        [*launch, "train", f"--data={data}", f"--out={tmp_path / 'run'}", "--method=BitFit()", "--epochs=2",
         "--batch_size=4", "--image_size=32"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    rows = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert len(rows) == 2
    assert done.stdout.count("epoch   1/2") == 1


def test_a_folder_that_is_taken_ends_every_process(tmp_path: Path) -> None:
    """Without a launcher that would end those that are left waiting."""
    data = colour_folder(tmp_path / "colours", per_class=8)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    command = [python(), "-m", "vitrim", "train", f"--data={data}", f"--out={tmp_path / 'run'}",
               "--method=BitFit()", "--epochs=1", "--batch_size=4", "--image_size=32"]  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    common |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=120)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert all("is not empty" in text for text in said)
    assert [process.returncode for process in started] == [2, 2]
