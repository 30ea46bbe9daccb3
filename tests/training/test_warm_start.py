"""A new run that starts from the weights of a finished one."""

from pathlib import Path

import pytest
import torch
from small_runs import METHODS, colour_folder, same, small_run, toy_vit, weights
from torch import Tensor

from vitrim.files.saving import load, save
from vitrim.runs.folder import RunFolder
from vitrim.training.loop import Run, train

STILL = {"epochs": 1, "batch_size": 8, "lr": 0.0, "min_lr": 0.0, "warmup_lr": 0.0, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return colour_folder(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module", params=[METHODS, ("FisherDelta(top=5.0)",), ("LoRA(rank=2, bits=1)",)])
def first(tmp_path_factory: pytest.TempPathFactory, data: str, request: pytest.FixtureRequest) -> Run:
    out = tmp_path_factory.mktemp("runs") / "first"
    return small_run(out, data, methods=request.param, epochs=2, augment="none")


def go_on(first: Run, out: Path, **more: object) -> Run:
    settings = {"training": STILL, **more}
    return train(toy_vit(), init=first.folder, out=out, cpu=True, quiet=True, **settings)  # type: ignore[arg-type]


def learned(first: Run, place: Path) -> dict[str, Tensor]:
    """What the finished run's file holds once it is loaded: few-bit weights are packed anew in every file."""
    model = load(first.folder / "model.safetensors", backbone=toy_vit())
    place.mkdir()
    save(model, place / "model.safetensors")
    return weights(place)


def test_it_starts_from_the_very_weights(tmp_path: Path, first: Run) -> None:
    again = go_on(first, tmp_path / "again")
    before, after = learned(first, tmp_path / "loaded"), weights(tmp_path / "again")
    assert same(before, {name: after[name] for name in before})  # the run's file holds its backbone as well
    assert again.metrics.top1 == first.metrics.top1
    assert again.metrics.loss == pytest.approx(first.metrics.loss, rel=1e-6)
    assert again.model.methods == first.model.methods
    assert again.record["init"]["run"] == str(first.folder.resolve())
    assert again.record["init"]["classifier"] == "kept"


def test_other_classes_get_a_new_classifier_on_the_same_weights(tmp_path: Path, first: Run) -> None:
    other = colour_folder(tmp_path / "others")
    (tmp_path / "others" / "red").rename(tmp_path / "others" / "scarlet")
    again = go_on(first, tmp_path / "again", data=other)
    assert again.record["init"]["classifier"] == "new"
    before, after = learned(first, tmp_path / "loaded"), weights(tmp_path / "again")
    differ = {name for name in before if not torch.equal(before[name], after[name])}
    assert differ
    assert all(name.startswith("vit.head.") for name in differ)


def test_what_the_run_decides_cannot_be_asked_for(tmp_path: Path, first: Run) -> None:
    with pytest.raises(ValueError, match="init takes recipe from the run"):
        go_on(first, tmp_path / "again", recipe="lora")
    assert not (tmp_path / "again").exists()


def test_other_backbone_weights_are_refused(tmp_path: Path, first: Run) -> None:
    vit = toy_vit()
    with torch.no_grad():
        vit.pos_embed.add_(1.0)
    with pytest.raises(ValueError, match="other backbone weights"):
        train(vit, init=first.folder, out=tmp_path / "again", training=STILL, cpu=True, quiet=True)
    assert not (tmp_path / "again").exists()


def test_more_epochs_of_a_finished_run_say_how(first: Run) -> None:
    with pytest.raises(ValueError, match=r"has finished.*--init"):
        train(toy_vit(), out=first.folder, resume=True, training={"epochs": 20}, cpu=True, quiet=True)
    assert RunFolder(first.folder).record()["status"] == "finished"
