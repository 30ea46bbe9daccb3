"""Several labels a picture and numbers to predict: from a table to a trained, saved, measured model."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_runs import METHODS, same, small_run, toy_vit, weights
from small_tables import table_of_labels, table_of_numbers

from vitrim.data import open_data
from vitrim.files.saving import load
from vitrim.files.swap import swap
from vitrim.report.page import write_report
from vitrim.runs.evaluate import answer, evaluate
from vitrim.runs.folder import RunFolder
from vitrim.runs.predict import predict
from vitrim.training.loop import Run, train

pytestmark = pytest.mark.usefixtures("short_measuring")

TABLES = {"multilabel": table_of_labels, "regress": table_of_numbers}


def named_run(folder: Path, data: str, **training: object) -> Run:
    """On a named backbone, so that its folder is complete by itself."""
    settings = {"epochs": 8, "batch_size": 8, "lr": 2e-2, **training}
    return train(
        "test_vit", data, methods=METHODS, image_size=48, out=folder, training=settings, cpu=True, quiet=True
    )


@pytest.fixture(scope="module", params=list(TABLES))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp(request.param)
    return named_run(place / "run", TABLES[request.param](place / "data"))


def test_it_learns_and_says_what_it_is(run: Run) -> None:
    rows = RunFolder(run.folder).history()
    task = run.record["data"]["task"]
    figure = {"multilabel": "map", "regress": "r2"}[task]
    assert rows[-1]["train_loss"] < 0.7 * rows[0]["train_loss"]
    assert run.record["results"][figure] > 0.5
    assert {f"val_{figure}", "val_loss"} <= set(rows[0])
    assert run.model.task == task == load(run.folder / "model.safetensors").task
    assert f"(task={task})" in " ".join(run.record["data"]["notes"])
    assert f"task={task}" in run.record["data"]["spec"]


def test_the_kept_epoch_is_the_best_on_validation(run: Run) -> None:
    rows = RunFolder(run.folder).history()
    if run.model.task == "regress":
        best = min(rows, key=lambda row: row["val_loss"])
    else:
        best = max(rows, key=lambda row: (row["val_map"], -row["val_loss"]))
    assert run.record["results"]["epoch"] == best["epoch"]


def test_evaluate_repeats_the_result_from_the_file(run: Run) -> None:
    assert evaluate(run.folder, batch_size=8, cpu=True) == run.metrics
    data = run.record["settings"]["data"].replace("?", "?task=" + run.model.task + "&")
    assert evaluate(run.folder / "model.safetensors", data, cpu=True).loss == pytest.approx(run.metrics.loss)
    with pytest.raises(ValueError, match=f"for the task {run.model.task}, but digits is read as class"):
        evaluate(run.folder, open_data("digits"))


def test_the_figures_are_torchmetrics_of_the_answers(run: Run) -> None:
    from torchmetrics.functional import mean_absolute_error, r2_score
    from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

    found = answer(run.folder, cpu=True)
    targets = torch.tensor(found.targets)
    if found.task == "multilabel":
        assert found.metrics.map == pytest.approx(
            multilabel_average_precision(found.answers, targets, 4).item(), abs=1e-6
        )
        assert found.metrics.f1 == pytest.approx(
            multilabel_f1_score(found.answers, targets, 4, average="micro").item(), abs=1e-6
        )
    else:
        assert found.metrics.mae == pytest.approx(
            mean_absolute_error(found.answers.double(), targets.double(), num_outputs=2).mean().item(),
            rel=1e-5,
        )
        assert found.metrics.r2 == pytest.approx(
            r2_score(found.answers.double(), targets.double()).item(), rel=1e-4
        )


def test_predict_speaks_of_labels_and_values(run: Run) -> None:
    found = answer(run.folder, cpu=True)
    said = predict(run.folder, found.paths[0])
    if found.task == "regress":
        assert [one.name for one in said] == ["brightness", "redness"]
        assert [one.probability for one in said] == pytest.approx(found.answers[0].tolist(), rel=1e-4)
        assert 5000 < said[0].probability < 10_500
    else:
        values = zip(found.names, found.answers[0].tolist(), strict=True)
        likely = {name for name, value in values if value > 0.5}
        assert {one.name for one in said} >= likely
        assert len(said) == max(1, len(likely))


def test_the_report_speaks_of_them(run: Run, tmp_path: Path) -> None:
    page = write_report([run.folder], tmp_path / "report.html").read_text()
    words = {"multilabel": ("mAP", "The labels one by one"), "regress": ("R2", "The targets one by one")}
    assert all(word in page for word in words[run.model.task])


def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vitrim.training.passes as passes

    data = table_of_numbers(tmp_path / "data")
    whole = small_run(tmp_path / "whole", data, regression_loss="huber")
    keep, calls = passes.keep_epoch, []

    def stop_after_two(*arguments: object) -> object:
        calls.append(keep(*arguments))  # type: ignore[arg-type]
        if len(calls) == 2:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(passes, "keep_epoch", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path / "cut", data, regression_loss="huber")
    monkeypatch.undo()
    small_run(tmp_path / "cut", data, resume=True, regression_loss="huber")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert (
        whole.record["results"]["mae"]
        == json.loads((tmp_path / "cut/run.json").read_text())["results"]["mae"]
    )


def test_swapping_takes_the_task_of_the_file(run: Run) -> None:
    model = load(run.folder / "model.safetensors")
    task, scale = model.task, model.scale
    model.task, model.scale = "classify", None
    swap(model, run.folder / "model.safetensors")
    assert (model.task, model.scale) == (task, scale)


@pytest.mark.parametrize(
    ("task", "settings", "methods", "sentence"),
    [
        ("multilabel", {"label_smoothing": 0.1}, ["LoRA"], r"label_smoothing=0.1 spreads a share"),
        ("regress", {"mixup": 0.5}, ["LoRA"], r"mixup=0.5 mixes classes, which a regress task does not have"),
        ("regress", {"class_weights": "balanced"}, ["LoRA"], r"class_weights=balanced weighs classes"),
        ("multilabel", {"sampler": "balanced"}, ["LoRA"], r"draws every class equally often"),
        ("multilabel", {"regression_loss": "huber"}, ["LoRA"], r"regression_loss=huber is for numbers"),
        ("regress", {}, ["FisherDelta"], r"FisherDelta chooses by the loss of classes"),
        ("multilabel", {}, ["DyT"], r"use DyT\(complete=0.0\)"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_before_anything_is_written(
    tmp_path: Path, task: str, settings: dict[str, object], methods: list[str], sentence: str
) -> None:
    data = TABLES[task](tmp_path / "data", 16)
    with pytest.raises(ValueError, match=sentence):
        small_run(tmp_path / "run", data, methods=methods, batch_size=4, **settings)
    assert not (tmp_path / "run").exists()


def test_a_task_can_be_asked_for(tmp_path: Path) -> None:
    data = table_of_labels(tmp_path / "data", 24)
    settings = {"epochs": 1, "batch_size": 4}
    options = {"training": settings, "cpu": True, "quiet": True}
    finished = train(toy_vit(), data, methods=[], out=tmp_path / "run", task="multilabel", **options)
    assert finished.record["settings"]["data"].endswith("?task=multilabel")
    with pytest.raises(ValueError, match=r"started with task=multilabel, so it cannot be resumed"):
        train(toy_vit(), out=tmp_path / "run", task="regress", resume=True)
    with pytest.raises(ValueError, match=r"digits names one class a picture, so its task is classify"):
        train(toy_vit(), "digits", task="regress")
    with pytest.raises(ValueError, match=r"no task 'regression'; did you mean regress"):
        train(toy_vit(), data, task="regression")


def test_a_target_without_spread_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [f"{name}.png,1.5,{split}" for name, split in (("a", "train"), ("b", "train"), ("c", "test"))]
    for name in "bc":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *rows]))
    with pytest.raises(ValueError, match=r"'label' is 1.5 for every training image"):
        small_run(tmp_path / "run", f"csv:{tmp_path}/t.csv?task=regress", batch_size=2)
