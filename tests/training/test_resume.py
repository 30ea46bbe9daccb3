"""A run that was stopped, in whatever way, ends like one that was not; and a folder is never overwritten."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import colour_folder, same, small_run, weights

from vitrim import compose, evaluate, open_data
from vitrim.runs.checkpoint_files import read_state
from vitrim.runs.folder import RunFolder
from vitrim.runs.opening import data_of_run
from vitrim.settings.training import Training
from vitrim.training.loop import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return colour_folder(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    """An uninterrupted run, with augmentation and dropout so that randomness matters."""
    return small_run(tmp_path_factory.mktemp("runs") / "whole", data).folder


def without_times(folder: Path) -> list[dict[str, Any]]:
    rows = RunFolder(folder).history()
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def stop_in_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int, error: BaseException) -> None:
    """Let training fail in the middle of an epoch, after some steps."""
    rate = Training.learning_rate

    def learning_rate(self: Training, progress: float) -> float:
        if progress > epoch + 0.5:
            raise error
        return rate(self, progress)

    monkeypatch.setattr(Training, "learning_rate", learning_rate)


def test_ctrl_c_and_resume_give_the_uninterrupted_result(
    tmp_path: Path, data: str, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt, match=r"resume --out"):
            small_run(out, data)
    assert RunFolder(out).record()["status"] == "running"
    small_run(out, data, resume=True)
    assert same(weights(out), weights(whole))
    assert without_times(out) == without_times(whole)


def test_history_written_after_the_last_checkpoint_is_cut(tmp_path: Path, data: str, whole: Path) -> None:
    out = tmp_path / "run"
    folder = RunFolder(small_run(out, data).folder)
    for file in folder.checkpoints.glob("epoch-00004.pt"):  # as if killed between history and checkpoint
        file.unlink()
    (folder.checkpoints / ".epoch-00004.pt.half").write_bytes(b"half a checkpoint")
    with folder.history_file.open("a") as file:
        file.write('{"epoch": 5, "train_lo')
    small_run(out, data, resume=True)
    assert [row["epoch"] for row in folder.history()] == [1, 2, 3, 4]
    assert without_times(out) == without_times(whole)
    assert not list(folder.checkpoints.glob(".*"))


def test_reading_processes_change_nothing(tmp_path: Path, data: str, whole: Path) -> None:
    assert same(weights(small_run(tmp_path / "run", data, workers=2).folder), weights(whole))


def test_another_seed_changes_the_result(tmp_path: Path, data: str, whole: Path) -> None:
    assert not same(weights(small_run(tmp_path / "run", data, seed=1).folder), weights(whole))


def test_a_finished_run_resumes_to_the_same(tmp_path: Path, data: str, whole: Path) -> None:
    out = tmp_path / "run"
    first = small_run(out, data).metrics
    assert small_run(out, data, resume=True).metrics == first
    assert same(weights(out), weights(whole))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"lr": 0.5}, r"started with lr=0.01, so it cannot be resumed with 0.5; leave lr out"),
        ({"lr0": 0.5}, r"no training setting 'lr0'"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    whole: Path, data: str, changed: dict[str, float], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        small_run(whole, data, resume=True, **changed)


def test_resuming_other_data_or_methods_is_refused(whole: Path, data: str) -> None:
    with pytest.raises(ValueError, match=r"started with data="):
        train(data="digits", out=whole, resume=True)
    with pytest.raises(ValueError, match=r"started with methods="):
        train(methods=["LoRA"], out=whole, resume=True)


def test_resuming_on_changed_data_is_refused(tmp_path: Path) -> None:
    data = colour_folder(tmp_path / "colours")
    run = small_run(tmp_path / "run", data, epochs=1)
    record: Any = RunFolder(run.folder).record()
    record["data"]["images"]["test"] += 1
    RunFolder(run.folder).write_record(record)  # as if a test image had been removed, for being broken
    assert small_run(run.folder, data, resume=True, epochs=1).metrics == run.metrics
    for index in range(5):
        shutil.copy(tmp_path / "colours/red/0.png", tmp_path / f"colours/red/more-{index}.png")
    with pytest.raises(ValueError, match=r"had 33 train images when this run began, but has 37 now"):
        small_run(run.folder, data, resume=True, epochs=1)
    (tmp_path / "colours/blue").rename(tmp_path / "colours/azure")
    with pytest.raises(ValueError, match=r"no longer has the classes .* .'azure' differs"):
        small_run(run.folder, data, resume=True, epochs=1)


def test_a_folder_with_something_in_it_is_refused(whole: Path, data: str, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match=r"already holds a run; choose another out, or continue"):
        small_run(whole, data)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"is not empty"):
        small_run(tmp_path, data)
    with pytest.raises(FileExistsError, match=r"is a file"):
        small_run(tmp_path / "notes.txt", data)
    with pytest.raises(FileNotFoundError, match=r"not a run folder: it has no run.json"):
        small_run(tmp_path / "nowhere", data, resume=True)


def test_a_loss_that_is_no_number_stops_with_the_checkpoint_intact(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = Training.learning_rate
    monkeypatch.setattr(
        Training, "learning_rate", lambda self, at: float("inf") if at >= 2 else rate(self, at)
    )
    with pytest.raises(FloatingPointError, match=r"no longer a number \(epoch 3, .*after epoch 2 is intact"):
        small_run(tmp_path / "run", data)
    state = RunFolder(tmp_path / "run").last_checkpoint()
    assert state is not None
    assert state["epoch"] == 2
    assert all(torch.isfinite(value).all() for value in state["weights"].values())


def test_a_full_disk_is_a_sentence_and_leaves_a_run_to_resume(
    tmp_path: Path, data: str, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    replace = os.replace

    def full(source: str, target: Path) -> None:
        if Path(target).name == "epoch-00003.pt":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match=r"cannot write .*epoch-00003.pt.*No space left on device"):
            small_run(out, data)
    small_run(out, data, resume=True)
    assert same(weights(out), weights(whole))


def test_a_damaged_record_is_a_sentence(tmp_path: Path, data: str) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"status": "running"})[:-3])
    with pytest.raises(ValueError, match=r"run.json is damaged"):
        small_run(tmp_path, data, resume=True)
    (tmp_path / "run.json").write_text(json.dumps({"status": "running"}))
    with pytest.raises(ValueError, match=r"run.json is damaged: it does not say what was run"):
        small_run(tmp_path, data, resume=True)


def test_a_lost_history_is_a_sentence(tmp_path: Path, data: str) -> None:
    folder = RunFolder(small_run(tmp_path / "run", data, epochs=2).folder)
    folder.history_file.unlink()
    with pytest.raises(FileNotFoundError, match=r"history.jsonl lacks some of the 2 epochs"):
        small_run(folder.path, data, resume=True, epochs=2)


def test_the_checkpoint_before_the_newest_can_be_finished_too(tmp_path: Path, data: str) -> None:
    folder = RunFolder(small_run(tmp_path / "run", data, augment="none").folder)
    for checkpoint in folder.checkpoints.glob("epoch-*.pt"):
        assert folder.best(read_state(checkpoint)["picked"]["epoch"])


def test_methods_that_choose_by_data_resume_with_what_they_chose(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ["FisherDelta(top=1.0)"]
    whole = small_run(tmp_path / "whole", data, methods=methods, epochs=2)
    assert whole.record["chosen_methods"] != list(whole.record["settings"]["methods"])
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            small_run(tmp_path / "run", data, methods=methods, epochs=2)
    small_run(tmp_path / "run", data, resume=True, methods=methods, epochs=2)
    assert same(weights(tmp_path / "run"), weights(whole.folder))


def test_a_relative_folder_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colour_folder(tmp_path / "home" / "colours")
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    run = small_run(tmp_path / "run", "folder:colours", epochs=1)
    monkeypatch.chdir(tmp_path / "away")
    spec, root = data_of_run(run.folder, None)
    assert open_data(spec, root=root).classes == run.model.classes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"precision": "fp8"}, "precision must be one of 'no', 'bf16', 'fp16', got 'fp8'"),
        ({"workers": -2}, "workers must be a whole number of at least 0, got -2"),
    ],
)
def test_settings_of_an_evaluation_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(compose("vitrim_tiny_patch8_96", num_classes=10), "digits", **settings)
