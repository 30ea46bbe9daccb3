"""What a run does with its settings, and what its record says."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from small_runs import METHODS, colour_folder, small_run, toy_vit, weights
from timm.models.vision_transformer import VisionTransformer

from vitrim.files.saving import load
from vitrim.runs.evaluate import evaluate
from vitrim.runs.folder import KEPT_CHECKPOINTS
from vitrim.runs.opening import open_model
from vitrim.runs.predict import predict
from vitrim.training.loop import Run, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return colour_folder(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: str) -> Run:
    """A run on a named backbone, so that its folder is complete by itself."""
    return train(
        "test_vit",
        data,
        methods=METHODS,
        image_size=48,
        out=tmp_path_factory.mktemp("runs") / "run",
        training={"epochs": 6, "batch_size": 8, "lr": 2e-2},
        cpu=True,
        quiet=True,
    )


def test_training_learns(run: Run) -> None:
    rows = [row["train_loss"] for row in run_history(run)]
    assert rows[-1] < rows[0] / 2
    assert run.metrics.top1 > 0.8


def run_history(run: Run) -> list[dict[str, float]]:
    from vitrim.runs.folder import RunFolder

    return RunFolder(run.folder).history()


def test_only_what_is_meant_to_train_changes(tmp_path: Path, data: str) -> None:
    before = toy_vit().state_dict()
    model = small_run(tmp_path / "run", data, epochs=1).model
    after = model.vit.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == set()
    assert set(model.trained()) < set(weights(tmp_path / "run"))  # a module is saved whole


def test_the_record_says_what_was_run(run: Run, data: str) -> None:
    record = run.record
    assert record["status"] == "finished"
    assert record["settings"]["model"] == "test_vit"
    assert record["settings"]["data"] == data
    assert record["settings"]["training"]["epochs"] == 6
    assert record["settings"]["training"]["seed"] == 42
    assert record["data"]["classes"] == ["blue", "green", "red"]
    assert sum(record["data"]["images"][name] for name in ("train", "val", "test")) == 48
    assert record["preprocess"]["image_size"] == [48, 48]
    assert record["costs"]["trained_parameters"] == sum(p.numel() for p in run.model.trained().values())
    assert record["costs"]["gmacs"] < record["costs"]["plain"]["gmacs"]
    assert record["results"]["split"] == "test"
    assert record["results"]["top1"] == run.metrics.top1
    assert {"vitrim", "torch", "timm", "python"} <= set(record["versions"])
    assert record["machine"]["cpus"] >= 1
    assert record["seconds_per_epoch"] > 0


def test_evaluate_repeats_the_result_from_the_folder_alone(run: Run) -> None:
    assert evaluate(run.folder, cpu=True) == run.metrics
    assert evaluate(run.folder / "model.safetensors", run.record["settings"]["data"], cpu=True) == run.metrics


def test_predict_names_pictures(run: Run, data: str) -> None:
    folder = Path(data.partition(":")[2])
    found = predict(run.folder, [folder / "red", folder / "blue" / "0.png"], top=3)
    assert len(found) == 17 * 3
    best = found[::3]
    assert sum(guess.name == "red" for guess in best[:16]) >= 13
    assert sum(guess.probability for guess in found[:3]) == pytest.approx(1, abs=1e-5)
    assert found[0].probability >= found[1].probability >= found[2].probability


def test_prediction_refusals(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no image .*missing.png"):
        predict(run.folder, tmp_path / "missing.png")
    with pytest.raises(ValueError, match=r"top must be between 1 and the number of classes .3., got 4"):
        predict(run.folder, tmp_path, top=4)
    with pytest.raises(FileNotFoundError, match=r"holds no pictures"):
        predict(run.folder, tmp_path)
    with pytest.raises(ValueError, match=r"no images were given"):
        predict(run.folder, [])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken.png"):
        predict(run.folder, tmp_path / "broken.png")


def test_other_classes_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tells 3 classes apart, but digits has 10"):
        evaluate(run.folder, "digits")
    renamed = colour_folder(tmp_path / "colours", per_class=4)
    (tmp_path / "colours" / "blue").rename(tmp_path / "colours" / "azure")
    with pytest.raises(ValueError, match=r"knows the class 'blue' where .* has 'azure'"):
        evaluate(run.folder, renamed)
    with pytest.raises(ValueError, match=r"a model in memory has no data of its own"):
        evaluate(run.model)
    with pytest.raises(FileNotFoundError, match=r"no run folder or model file"):
        evaluate(tmp_path / "nothing", "digits")


def test_selection_on_val_keeps_the_best_epoch(tmp_path: Path, data: str) -> None:
    finished = small_run(tmp_path / "run", data, select="val", lr=0.1, schedule="constant", epochs=6)
    accuracies = [row["val_top1"] for row in run_history(finished)]
    best = max(accuracies)
    rows = [row for row in run_history(finished) if row["val_top1"] == best]
    assert finished.record["results"]["epoch"] == min(rows, key=lambda row: row["val_loss"])["epoch"]
    model = load(finished.folder / "model.safetensors", backbone=toy_vit())
    assert evaluate(model, data, "val", cpu=True).top1 == pytest.approx(best)
    kept = list((finished.folder / "checkpoints").glob("best-*.pt"))
    assert len(kept) <= KEPT_CHECKPOINTS  # one for each checkpoint at most


def test_accumulated_batches_are_one_large_batch(tmp_path: Path, data: str) -> None:
    plain = {"schedule": "constant", "warmup_epochs": 0, "epochs": 1, "augment": "none"}
    methods = ["LoRA(rank=2)"]
    found = []
    for size, accumulate in ((8, 1), (4, 2)):
        settings = {**plain, "batch_size": size, "accumulate": accumulate}
        finished = train(
            toy_vit(),
            data,
            methods=methods,
            out=tmp_path / str(size),
            training=settings,
            cpu=True,
            quiet=True,
        )
        found.append(dict(finished.model.trained()))
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-3, atol=1e-5)


def test_gradient_checkpointing_changes_nothing(tmp_path: Path, data: str) -> None:
    settings = {"epochs": 1, "augment": "none"}
    kept = small_run(tmp_path / "kept", data, **settings).metrics
    recomputed = small_run(tmp_path / "again", data, **settings, gradient_checkpointing=True).metrics
    assert kept.loss == pytest.approx(recomputed.loss, rel=1e-5)


def test_drop_path_is_timms(tmp_path: Path, data: str) -> None:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 2, "num_classes": 0}
    theirs = VisionTransformer(**sizes, drop_path_rate=0.3)
    ours = small_run(tmp_path / "run", data, epochs=1, drop_path=0.3).model.vit
    for mine, timms in zip(ours.blocks, theirs.blocks, strict=True):
        assert type(mine.drop_path1) is type(timms.drop_path1)
        assert getattr(mine.drop_path2, "drop_prob", 0) == pytest.approx(
            getattr(timms.drop_path2, "drop_prob", 0)
        )


def test_bfloat16_trains(tmp_path: Path, data: str) -> None:
    assert small_run(tmp_path / "run", data, precision="bf16", augment="none", epochs=6).metrics.top1 > 0.6


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"batch_size": 64},
            "images do not fill one batch of 64; lower batch_size to at most 33",
        ),
        ({"train_split": "extra"}, "has no 'extra' split"),
        ({"train_split": "trainval", "select": "val"}, "select='val' needs validation images"),
        ({"precision": "fp16"}, "fp16' needs a GPU"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    tmp_path: Path, data: str, settings: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        small_run(tmp_path / "run", data, **settings)
    assert not (tmp_path / "run").exists()


def test_a_recipe_and_methods_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"brings its own methods"):
        train(recipe="lora", methods=["LoRA"])
    with pytest.raises(ValueError, match=r"no recipe 'loraa'; did you mean lora"):
        train(recipe="loraa")
    with pytest.raises(ValueError, match=r"must be a list of methods"):
        train(methods="LoRA")  # type: ignore[arg-type]


def test_an_unfinished_run_has_no_model_to_use(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("vitrim.training.passes"), "keep_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path / "run", data)
    with pytest.raises(FileNotFoundError, match=r"has no model yet"):
        open_model(tmp_path / "run")
