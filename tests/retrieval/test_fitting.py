"""A whole run on toy pictures: the loss falls, a killed run goes on to the same weights, what was saved
ranks as what was trained."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from reading import check_readers_end
from safetensors.torch import load_file
from small_captions import write_captions

from vitrim.retrieval.fitting import RetrievalRun, evaluate_run, train_retrieval
from vitrim.retrieval.keeping import is_retrieval_model, load_retrieval
from vitrim.retrieval.plan import RetrievalPlan, with_training


def plan(file: Path, **changes: object) -> RetrievalPlan:
    training = with_training({"epochs": 2, "batch_size": 8, "lr": 2e-3, "workers": 0, "warmup_epochs": 0.0})
    values = {
        "data": f"retrieval:{file}", "methods": ("LoRA(rank=2)", "Bipartite(at=(4,))"),
        "image_size": (48, 48),
        "proj_dim": 16, "length": 12, "training": training, **changes,
    }  # fmt: skip
    return RetrievalPlan(**values)


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captions(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="module")
def finished(captions: Path) -> RetrievalRun:
    run = captions.parent.parent / "run"
    return train_retrieval(plan(captions, loss="moco", queue=20), out=run, cpu=True, quiet=True)


def test_a_run_learns_and_says_what_it_did(finished: RetrievalRun) -> None:
    rows = [json.loads(line) for line in (finished.folder / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert 0 <= rows[1]["val_mean_recall"] <= 1
    record = json.loads((finished.folder / "run.json").read_text())
    assert record["status"] == "finished" and record["results"]["split"] == "test"
    assert record["results"]["images"] == 4 and record["results"]["texts"] == 8
    assert record["costs"]["tokens"][3] == 37 and record["costs"]["tokens"][4] == 19
    assert record["costs"]["trained_by_tower"]["vision"] > 0


def test_a_killed_run_goes_on_to_the_same_weights(finished: RetrievalRun) -> None:
    killed = finished.folder.with_name("killed")
    shutil.copytree(finished.folder, killed)
    (killed / "checkpoints" / "epoch-00002.pt").unlink()  # killed before it was written
    for name in ("model.safetensors", "vision.safetensors"):
        (killed / name).unlink()
    record = json.loads((killed / "run.json").read_text())
    (killed / "run.json").write_text(json.dumps({**record, "status": "running"}))
    train_retrieval(out=killed, resume=True, cpu=True, quiet=True)
    for name in ("model.safetensors", "vision.safetensors"):
        once, again = load_file(finished.folder / name), load_file(killed / name)
        assert set(once) == set(again)
        assert all(torch.equal(once[key], again[key]) for key in once)
    assert len((killed / "history.jsonl").read_text().splitlines()) == 2


def test_what_was_saved_ranks_as_what_was_trained(finished: RetrievalRun) -> None:
    assert is_retrieval_model(finished.folder) and not is_retrieval_model(finished.folder / "checkpoints")
    part, found = evaluate_run(finished.folder, workers=0)
    assert part == "test"
    assert torch.allclose(found.similarity, finished.found.similarity, atol=1e-6)
    assert found.plain == finished.found.plain
    model, tokenizer, _ = load_retrieval(finished.folder)
    assert model.follower is None and not model.training
    assert tokenizer(["a red disc"])[0].tolist() == finished.tokenizer(["a red disc"])[0].tolist()


def test_a_picture_that_cannot_be_read_leaves_no_process(finished: RetrievalRun, tmp_path: Path) -> None:
    file = write_captions(tmp_path / "data")
    (tmp_path / "data" / "images" / "04.png").write_bytes(b"damaged")
    check_readers_end(lambda: evaluate_run(finished.folder, f"retrieval:{file}", workers=2), "04.png")


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (
            "FisherDelta()",
            "FisherDelta chooses by the loss of classes of whole pictures, which retrieval does",
        ),
        ("DyT()", "DyT compares with the class probabilities"),
        ("EViT(at=(1,), budget='mass')", "is fitted on training images, which retrieval does not do"),
    ],
)
def test_methods_that_choose_by_classes_or_images_are_refused_before_a_run_is_made(
    method: str, words: str, captions: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        train_retrieval(plan(captions, methods=(method,)), out=tmp_path / "run", cpu=True)
    assert not (tmp_path / "run").exists()


def test_shares_are_drawn_where_a_method_trains_for_a_range_of_them(captions: Path, tmp_path: Path) -> None:
    shared = {"training": with_training({"epochs": 1, "batch_size": 8, "workers": 0})}
    found = []
    for name, text in (
        ("fixed", "EViT(keep=0.7, at=(4,))"),
        ("range", "EViT(at=(4,), train_keep=(0.3, 1.0))"),
    ):
        run = train_retrieval(
            plan(captions, methods=("LoRA(rank=2)", text), **shared),
            out=tmp_path / name,
            cpu=True,
            quiet=True,
        )
        found.append(run.model.trained())
    assert any(
        not torch.equal(one, other) for one, other in zip(*(each.values() for each in found), strict=True)
    )


def test_a_folder_without_a_tokenizer_is_refused_before_a_run_is_made(captions: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    with pytest.raises(ValueError, match="gives no tokenizer"):
        train_retrieval(plan(captions, text=str(tmp_path)), out=tmp_path / "run", cpu=True)
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_refused(finished: RetrievalRun, captions: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="already holds a run"):
        train_retrieval(plan(captions), out=finished.folder, cpu=True)
    with pytest.raises(ValueError, match="no use for the setting mixup"):
        plan(captions, training=with_training({"mixup": 0.2}))
    with pytest.raises(ValueError, match="uniadapter needs both towers of BLIP"):
        plan(captions, uniadapter=8)
    with pytest.raises(ValueError, match="brings its own vision tower; leave out model"):
        plan(captions, text="blip:somewhere", model="vit_tiny_patch16_224")
    kept = plan(captions, loss="siglip").to_json()
    assert RetrievalPlan.from_json({**json.loads(json.dumps(kept)), "later": 1}) == plan(
        captions, loss="siglip"
    )
    for odd in (
        {"text": 7},
        {"methods": "LoRA"},
        {"training": {"epochs": "many"}},
        {"loss": "none"},
        {"data": None},
    ):
        with pytest.raises(ValueError, match="the plan of this retrieval run is damaged: its"):
            RetrievalPlan.from_json({**kept, **odd})
    damaged = tmp_path / "damaged"
    shutil.copytree(finished.folder, damaged)
    content = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged and cannot be read"):
        load_retrieval(damaged)
