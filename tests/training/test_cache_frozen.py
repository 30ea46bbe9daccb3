"""`cache_frozen`: the same run, of which the frozen blocks are computed once and kept on the disk."""

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import small_runs
import torch
from safetensors.torch import load_file
from small_runs import colour_folder, small_run, weights

from vitrim.runs import kept_tensors
from vitrim.runs.folder import RunFolder
from vitrim.training import frozen_cache, passes

LATE = ("LoRA(rank=2, dropout=0.2, at=(3,))", "EViT(keep=0.7, at=(1,))")
SETTINGS: dict[str, Any] = {"augment": "none", "epochs": 2, "methods": LATE}
RUNS: list[dict[str, Any]] = [
    {"ema": 0.9, "sampler": "balanced"},
    {"methods": ("DenseAdapter(width=4, at=(2, 3))", "ToMe(r=2, at=(0, 2))"), "drop_last": False,
     "batch_size": 7},
    {"methods": ("LayerNormTuning(at=(3,))",), "gradient_checkpointing": True, "select": "best-on-test"},
    {"methods": ("FisherDelta(top=None, at=(3,))",), "accumulate": 2},
    {"methods": (), "sampler": "balanced"},
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return colour_folder(tmp_path_factory.mktemp("colours"), per_class=8)


def history(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in RunFolder(folder).history()]


def run(out: Path, data: str, **changes: Any) -> None:
    small_run(out, data, **{**SETTINGS, "cache_frozen": True, **changes})


def bytes_of(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize("changes", RUNS, ids=str)
def test_the_same_history_and_weights_as_without(tmp_path: Path, data: str, changes: dict[str, Any]) -> None:
    run(tmp_path / "kept", data, **changes)
    run(tmp_path / "anew", data, **{**changes, "cache_frozen": False})
    kept, anew = history(tmp_path / "kept"), history(tmp_path / "anew")
    assert len(kept) == 2
    for first, second in zip(kept, anew, strict=True):
        assert first == pytest.approx(second, rel=1e-5)
    ours, theirs = weights(tmp_path / "kept"), weights(tmp_path / "anew")
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], rtol=1e-5, atol=1e-6), name
    assert not (tmp_path / "kept" / "frozen").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    run(out, data)
    return out


def test_stopped_while_it_was_made_and_after_an_epoch(
    tmp_path: Path, data: str, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, place = tmp_path / "stopped", tmp_path / "stopped" / "frozen"
    with monkeypatch.context() as killed:  # as a kill leaves it: half a file, under another name
        killed.setattr(kept_tensors, "whole_file", Half)
        with pytest.raises(KeyboardInterrupt):
            run(out, data)
    assert [file.name for file in place.iterdir()] == [".train.safetensors.1.part"]
    own = passes.keep_epoch

    def stop(*given: Any) -> Any:
        own(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(passes, "keep_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            run(out, data, resume=True)
    assert sorted(file.name for file in place.iterdir()) == ["train.safetensors", "val.safetensors"]
    made = []
    own_write = kept_tensors.write_rows
    monkeypatch.setattr(frozen_cache, "write_rows", lambda *given: made.append(given[0]) or own_write(*given))
    run(out, data, resume=True)
    assert not made
    assert history(out) == history(whole)
    assert bytes_of(out) == bytes_of(whole)


class Half:
    """A file that is being written when the process is killed."""

    def __init__(self, path: Path) -> None:
        self.stream = (path.parent / f".{path.name}.1.part").open("wb")

    def __enter__(self) -> Any:
        return self

    def write(self, content: bytes) -> None:
        self.stream.write(content)

    def seek(self, place: int) -> None:
        raise KeyboardInterrupt

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        return self.stream.fileno()

    def __exit__(self, *_: object) -> None:
        self.stream.close()


def test_another_runs_file_is_not_read(
    tmp_path: Path, data: str, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made with other frozen weights, or damaged, it is made anew."""
    out, other = tmp_path / "stopped", tmp_path / "other"
    with monkeypatch.context() as stopped:
        stopped.setattr(passes, "train_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(out, data)
        backbone = small_runs.toy_vit()
        backbone.blocks[0].norm1.weight.data.mul_(1.5)
        stopped.setattr(small_runs, "toy_vit", lambda: backbone)
        with pytest.raises(KeyboardInterrupt):
            run(other, data)
    file = out / "frozen" / "train.safetensors"
    others = other / "frozen" / file.name
    assert not torch.equal(load_file(others)["tokens"], load_file(file)["tokens"])
    shutil.copy(others, file)
    (out / "frozen" / "val.safetensors").write_bytes(b"cut off")
    run(out, data, resume=True)
    assert bytes_of(out) == bytes_of(whole)


def interrupted(*_: object) -> float:
    raise KeyboardInterrupt


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"augment": "flip"}, "augment=flip changes training images at random; give augment=none"),
    ({"mixup": 0.2}, "mixup=0.2 blends them at random; give mixup=0.0"),
    ({"drop_path": 0.1}, "drop_path skips blocks.1.drop_path1 at random; set it to 0"),
    ({"methods": ("LoRA(rank=2)",)}, r"no block is frozen: vit.blocks.0.\S+.down.weight trains"),
    ({"methods": ("LoRA(rank=2, at=(3,))", "EViT(keep=0.7, at=(1,), train_keep=(0.4, 0.9))")},
     r"in block 1 does something else in every step or epoch"),
    ({"methods": ("LoRA(rank=2, at=(3,))", "EViT(keep=0.7, at=(1,), budget='mass')")},
     "keeps in block 1 as many tokens as each image needs; use budget='fixed'"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "sentence"), REFUSED, ids=str)
def test_refused_in_a_sentence(tmp_path: Path, data: str, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        run(tmp_path / "run", data, **changes)
    if "budget" not in str(changes):  # its levels are found when the folder is there
        assert not (tmp_path / "run").exists()


def test_what_the_disk_does_not_hold(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(kept_tensors.shutil, "disk_usage", lambda path: usage(2**30, 2**30, 0))
    sentence = r"15 train and 3 val images \(14 x 32 numbers and 2,076 bytes.* would take .* 0.0 MiB free"
    with pytest.raises(OSError, match=sentence):
        run(tmp_path / "run", data)
    monkeypatch.undo()
    run(tmp_path / "run", data, resume=True)
    assert RunFolder(tmp_path / "run").record()["status"] == "finished"


def test_an_unreadable_picture(tmp_path: Path) -> None:
    """Whose place is taken by another one is written down in every epoch: not for what is computed once."""
    data = colour_folder(tmp_path / "colours", per_class=8)
    for picture in sorted((tmp_path / "colours" / "red").iterdir())[:7]:
        picture.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"red.\d.png cannot be read"):
        run(tmp_path / "run", data)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "running"
    assert not list((tmp_path / "run" / "frozen").iterdir())
