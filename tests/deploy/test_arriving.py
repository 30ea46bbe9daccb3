"""A file gets its name whole and checked, or not at all: full disks, interruptions, lost accuracy."""

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import toy, wake

from vitrim import compose, export
from vitrim.deploy import plain_timm
from vitrim.network.model import StagedViT


@pytest.fixture
def staged() -> StagedViT:
    return wake(compose(toy("vit", torch.float32, depth=1), "LoRA(rank=2)")).eval()


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def stopped(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def partly(then: Callable[..., None]) -> Callable[..., None]:
    """Writes some of a file before it ends."""

    def write(program: object, about: object, path: Path) -> None:
        path.write_bytes(b"half of it")
        then()

    return write


WAYS = {"onnx": "model.onnx", "pt2": "model.pt2", "timm": "plain.safetensors"}


@pytest.mark.parametrize("then", [full_disk, stopped])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_half_written_stays(
    way: str, then: Callable[..., None], staged: StagedViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitrim.deploy.export.program_of", lambda *_: None)  # nothing of it is written
    monkeypatch.setattr("vitrim.deploy.export.write_onnx", partly(then))
    monkeypatch.setattr("vitrim.deploy.export.write_pt2", partly(then))
    monkeypatch.setattr(plain_timm, "write_tensors", partly(then))
    target = tmp_path / WAYS[way]
    target.write_bytes(b"an earlier export")
    with pytest.raises((OSError, KeyboardInterrupt)) as ended:
        export(staged, target, to=way)
    if then is full_disk:
        assert "No space left" in str(ended.value) and target.name in str(ended.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        target.name: b"an earlier export"
    }


def test_an_interruption_at_the_last_step_takes_the_figures_back(
    staged: StagedViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, figures = tmp_path / "model.pt2", tmp_path / "model.pt2.check.json"
    target.write_bytes(b"an earlier export")
    figures.write_bytes(b"its figures")
    replace = Path.replace

    def fails(self: Path, other: Path) -> Path:
        return full_disk() or self if other == target else replace(self, other)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="No space left"):
        export(staged, target)
    assert target.read_bytes() == b"an earlier export"
    assert figures.read_bytes() == b"its figures"
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_killed_export_left_is_written_over(staged: StagedViT, tmp_path: Path) -> None:
    (tmp_path / ".part-model.pt2").write_bytes(b"half of it")
    export(staged, tmp_path / "model.pt2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt2", "model.pt2.check.json"]


def test_the_figures_say_what_was_run(staged: StagedViT, tmp_path: Path) -> None:
    done = export(staged, tmp_path / "model.pt2")
    written = json.loads((tmp_path / "model.pt2.check.json").read_text())
    assert written["sha256"] == hashlib.sha256(done.path.read_bytes()).hexdigest()
    assert written["file"] == "model.pt2" and written["megabytes"] == done.path.stat().st_size / 1e6
    assert written["check"]["batches"] == [1, 3, 8] and written["check"]["same_class"] == [12, 12]
    assert 0 <= written["check"]["largest_difference"] <= 1e-4 * written["check"]["largest_logit"]
    assert written["about"]["methods"] == [repr(method) for method in staged.methods]
    assert written["about"]["preprocess"]["mean"] == list(staged.preprocess.mean)
    assert {"vitrim", "torch", "timm"} <= set(written["about"]["versions"])


def test_features_are_compared_where_there_are_no_classes(tmp_path: Path) -> None:
    staged = wake(compose(toy("vit", torch.float32, depth=1), "LoRA(rank=2)", num_classes=0)).eval()
    done = export(staged, tmp_path / "model.pt2")
    assert done.agreement.same_class is None and done.agreement.in_words().startswith("features differ")


def test_int8_that_loses_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime comes with the extra `export`")
    staged = wake(compose(toy("vit", torch.float32, depth=1, num_classes=10), "LoRA(rank=2)")).eval()
    shares = iter((80.0, 78.5))
    monkeypatch.setattr("vitrim.deploy.export.accuracy", lambda *_: next(shares))
    with pytest.raises(ValueError, match=r"78\.50 % are right instead of 80\.00 %, which is more than"):
        export(staged, tmp_path / "model.onnx", precision="int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["multilabel", "regress"])
def test_int8_is_for_classes(task: str, staged: StagedViT, tmp_path: Path) -> None:
    """Its accuracy is the first class against the label: rows of labels ended in torch's own error."""
    staged.task = task
    with pytest.raises(ValueError, match=f"task {task} does not have"):
        export(staged, tmp_path / "model.onnx", precision="int8")
    assert not list(tmp_path.iterdir())
