"""What vitrim evaluate prints and writes about single classes and images."""

import csv
import json
from pathlib import Path

import pytest
from small_runs import colour_folder
from small_tables import table_of_labels, table_of_numbers

from vitrim.cli.main import main
from vitrim.data import open_data
from vitrim.runs.evaluate import answer
from vitrim.training.loop import train

TABLES = {"classify": colour_folder, "multilabel": table_of_labels, "regress": table_of_numbers}


@pytest.fixture(scope="module", params=list(TABLES))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp(request.param)
    training = {"epochs": 2, "batch_size": 8, "lr": 5e-3}
    data = TABLES[request.param](place / "data")
    options = {"training": training, "image_size": 48, "cpu": True, "quiet": True}
    return train("test_vit", data, methods=[], out=place / "run", **options).folder


def task_of(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["data"]["task"])


def evaluated(run: Path, *options: str) -> int:
    return main(["evaluate", str(run), "--cpu", *options])


def test_predictions_of_a_split_as_csv_and_json(run: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "a.json"):
        assert not evaluated(run, "--predictions", str(tmp_path / name), "--split", "val")
    rows = json.loads((tmp_path / "a.json").read_text())
    with (tmp_path / "a.csv").open() as file:
        cells = list(csv.DictReader(file))
    found = answer(run, split="val", cpu=True)
    assert [row["path"] for row in rows] == [row["path"] for row in cells] == list(found.paths)
    assert [row["loss"] for row in rows] == pytest.approx([float(row["loss"]) for row in cells])
    if task_of(run) == "classify":
        truths = [Path(row["path"]).parent.name for row in rows]
        assert [row["truth"] for row in rows] == truths
        right = sum(row["prediction"] == row["truth"] for row in rows)
        assert right == pytest.approx(found.metrics.top1 * len(rows))
        assert all(1 / 3 <= row["confidence"] <= 1 for row in rows)
    elif task_of(run) == "multilabel":
        assert all(cell["truth"] == "|".join(row["truth"]) for row, cell in zip(rows, cells, strict=True))
        assert {"confidence red", "confidence dark"} <= set(cells[0])
    else:
        errors = [abs(row["redness truth"] - row["redness prediction"]) for row in rows]
        assert sum(errors) / len(errors) == pytest.approx(found.metrics.parts[1]["mae"], rel=1e-4)


def test_json_holds_all_figures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not evaluated(run, "--json", "--worst", "2")
    shown = json.loads(capsys.readouterr().out)
    stored = json.loads((run / "run.json").read_text())["results"]
    key = {"classify": "per_class", "multilabel": "per_label", "regress": "per_target"}[task_of(run)]
    assert [part["name"] for part in shown[key]] == [part["name"] for part in stored[key]]
    assert shown["loss"] == pytest.approx(stored["loss"], rel=1e-5)
    losses = [row["loss"] for row in shown["most_wrong"]]
    assert losses == sorted(losses, reverse=True) and len(losses) <= 2


def test_the_terminal_shows_classes_and_the_most_wrong(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not evaluated(run)
    out = capsys.readouterr().out
    assert out.startswith("test: ")
    names = {"classify": "green", "multilabel": "dark", "regress": "brightness"}
    assert names[task_of(run)] in out
    wrong = answer(run, cpu=True).most_wrong(5)
    assert all(row["path"] in out for row in wrong)


def test_tables_of_classes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = evaluated(run, "--confusion", str(tmp_path / "c.csv"), "--per_class", str(tmp_path / "p.csv"))
    if task_of(run) != "classify":
        assert failed and "a confusion matrix is of classes" in capsys.readouterr().err
        return
    assert not failed
    with (tmp_path / "c.csv").open() as file:
        head, *rows = csv.reader(file)
    confusion = answer(run, cpu=True).metrics.confusion
    assert head[1:] == ["blue", "green", "red"]
    assert [tuple(map(int, row[1:])) for row in rows] == list(confusion)
    with (tmp_path / "p.csv").open() as file:
        parts = list(csv.DictReader(file))
    assert [int(part["images"]) for part in parts] == [sum(row) for row in confusion]


def test_an_unknown_ending_is_refused_first(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluated(run, "--predictions", "answers.txt")
    assert "'answers.txt' must end in .csv or .json" in capsys.readouterr().err


def test_tables_show_every_task_and_sweeps_compare_accuracies_alone(run: Path) -> None:
    assert main(["table", str(run)]) == 0
    if task_of(run) != "classify":
        from vitrim.sweep.checking import refuse_other_tasks

        data = TABLES[task_of(run)](run.parent / "data")
        with pytest.raises(ValueError, match="sweeps and searches compare accuracies"):
            refuse_other_tasks(open_data(data))


def test_options_of_other_tasks_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, words in (
        ("k_test", "with captions"),
        ("beta", "with captions"),
        ("inference", "is of"),
    ):
        assert main(["evaluate", str(run), f"--{option}", "1"]) == 2
        assert words in capsys.readouterr().err
