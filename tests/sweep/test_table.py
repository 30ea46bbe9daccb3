"""The table of many runs: the right averages, in the papers' order, and nothing averaged that must not be."""

import csv
import io
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrim.cli.main import main
from vitrim.data.vtab_tasks import TASKS
from vitrim.sweep.found import find_runs
from vitrim.sweep.grouped import GROUPS, Table, group_means, in_order, make_table
from vitrim.sweep.show import headings, markdown, names_width, parts, print_table, to_csv

DEVIATIONS = [{"setting": "epochs", "protocol": 100, "yours": 4}]


def write_run(
    folder: Path, recipe: str, data: str, seed: int, top1: float, status: str = "finished", **training: Any
) -> None:
    folder.mkdir(parents=True)
    record = {
        "status": status,
        "settings": {
            "model": "toy", "pretrained": False, "weights": None, "image_size": None, "data": data,
            "root": str(folder), "recipe": recipe, "methods": [],
            "training": {"seed": seed, "epochs": 4, "select": "last", **training},
        },
        "data": {"spec": data, "notes": ["test has 5 images: not comparable with published ones"]},
        "preprocess": {"image_size": [8, 8]},
        "costs": {"gmacs": 0.5, "gmacs_paper": 0.6, "trained_parameters": 110, "trained_head": 10},
        "protocol": {"name": "vtab/gps", "deviations": DEVIATIONS if recipe == "lora" else []},
        "model_bytes": 1000,
    }  # fmt: skip
    if status == "finished":
        record["results"] = {"split": "test", "epoch": 4, "top1": top1}
    (folder / "run.json").write_text(json.dumps(record))
    row = {"epoch": 4, "seconds": 2.0, "val_top1": 0.5}
    (folder / "history.jsonl").write_text(json.dumps(row) + "\n")


ACCURACIES = {  # percent, of two seeds
    "vtab:dsprites_ori": (20.0, 30.0),
    "vtab:eurosat": (90.0, 94.0),
    "vtab:dsprites_loc": (40.0, 40.0),
    "vtab:dtd": (70.0, 72.0),
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for recipe, more in {"linear": 0.0, "lora": 5.0}.items():
        for data, accuracies in ACCURACIES.items():
            for seed, accuracy in enumerate(accuracies):
                place = tmp_path / recipe / data.removeprefix("vtab:") / str(seed)
                write_run(place, recipe, data, seed, (accuracy + more) / 100)
    return tmp_path


def table_of(folder: Path, *by: str) -> Table:
    return make_table(find_runs(folder), by or ("recipe",))


def test_averages_as_computed_by_hand(runs: Path) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(table_of(runs)))))
    assert rows[0][:14] == [
        "recipe", "dtd", "natural, mean of 1 of 7", "eurosat", "specialized, mean of 1 of 4", "dsprites_loc",
        "dsprites_ori", "structured, mean of 2 of 8", "mean of 4 of 19 tasks", "mean of 3 of 3 group means",
        "GMACs", "GMACs, papers' count", "trained without head", "dtd std",
    ]  # fmt: skip
    # structured (40 + 25) / 2; tasks (71 + 92 + 40 + 25) / 4; groups (71 + 92 + 32.5) / 3
    by_hand = [71.0, 71.0, 92.0, 92.0, 40.0, 25.0, 32.5, 57.0, 65.0 + 1 / 6, 0.5, 0.6, 100.0, 2**0.5]
    assert rows[1][0] == "linear"
    assert [float(value) for value in rows[1][1:14]] == pytest.approx(by_hand)
    assert [float(value) for value in rows[2][1:10]] == pytest.approx([value + 5 for value in by_hand[:9]])


def test_markdown_has_all_columns_and_says_what_they_are(runs: Path) -> None:
    lines = markdown(table_of(runs)).splitlines()
    assert [line.count("|") for line in lines[:4]] == [len(headings(table_of(runs))) + 1] * 4
    assert "25.00 ± 7.07" in lines[2]
    assert "over 2 seeds" in lines[5]
    assert "lora is not trained as vtab/gps: epochs 4 (protocol: 100)." in lines
    assert not [line for line in lines if line.startswith("linear is not")]
    assert "vtab:dtd: test has 5 images: not comparable with published ones." in lines


def test_a_row_that_lacks_a_task_has_no_average_that_looks_comparable(runs: Path) -> None:
    for seed in (0, 1):
        (runs / "lora" / "eurosat" / str(seed) / "run.json").unlink()
    table = table_of(runs)
    line = markdown(table).splitlines()[3]
    assert line.split(" | ")[3:5] == ["–", "–"]
    assert line.split(" | ")[8:10] == ["–", "–"]
    assert "lacks tasks others have" in markdown(table)


def test_selection_on_test_is_marked_in_every_form(runs: Path) -> None:
    assert "†" not in markdown(table_of(runs))
    for seed in (2, 3):
        write_run(runs / "best" / str(seed), "best", "vtab:dtd", seed, 0.99, select="best-on-test")
    table = table_of(runs)
    assert markdown(table).count("†") == 3  # the cell, the mean of its group, and the remark
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [row["dtd selected on test"] for row in rows] == ["True", "False", "False"]


def test_averages_carry_the_marks_of_their_tasks(tmp_path: Path) -> None:
    for recipe, select in {"linear": "last", "lora": "best-on-test"}.items():
        for task in ("vtab:dtd", "vtab:eurosat"):
            chosen = select if task == "vtab:dtd" else "last"
            write_run(tmp_path / recipe / task[5:], recipe, task, 0, 0.5, select=chosen)
    linear, lora = markdown(table_of(tmp_path)).splitlines()[2:4]
    assert "†" not in linear
    assert lora.split(" | ")[1:7] == ["50.00†", "50.00†", "50.00", "50.00", "50.00†", "50.00†"]


def test_a_row_is_one_model(tmp_path: Path) -> None:
    for task, model in {"vtab:dtd": "small", "vtab:eurosat": "large"}.items():
        write_run(tmp_path / model, "linear", task, 0, 0.5)
        file = tmp_path / model / "run.json"
        file.write_text(file.read_text().replace('"toy"', f'"{model}"'))
    with pytest.raises(ValueError, match=r"have model large on some tasks .* --by recipe model"):
        table_of(tmp_path)
    assert len(table_of(tmp_path, "recipe", "model").lines) == 2


def test_names_may_have_brackets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", "my [/best] [bold]one", "vtab:dtd", 0, 0.5)
    assert main(["table", str(tmp_path)]) == 0
    assert "my [/best] [bold]one" in capsys.readouterr().out


def test_only_seeds_are_averaged_over(runs: Path) -> None:
    write_run(runs / "longer", "linear", "vtab:dtd", 2, 0.8, epochs=8)
    with pytest.raises(ValueError, match=r"differ in epochs .* --by recipe epochs"):
        table_of(runs)
    names = [line.name for line in table_of(runs, "recipe", "epochs").lines]
    assert names == ["linear | epochs=4", "linear | epochs=8", "lora | epochs=4"]
    write_run(runs / "twin", "lora", "vtab:dtd", 1, 0.8)
    with pytest.raises(ValueError, match="have seed 1"):
        table_of(runs, "recipe", "epochs")
    with pytest.raises(ValueError, match="did you mean epochs"):
        table_of(runs, "epoch")


def test_unfinished_runs_are_left_out_and_counted(runs: Path) -> None:
    write_run(runs / "going-on", "lora", "vtab:svhn", 0, 0.8, status="running")
    table = table_of(runs)
    assert table.unfinished == 1
    assert "vtab:svhn" not in table.tasks
    assert "1 unfinished" in markdown(table)


def test_runs_of_a_sweep_have_its_names_and_its_order(runs: Path) -> None:
    listed = [
        {"name": name, "folder": f"{recipe}/{data.removeprefix('vtab:')}/{seed}"}
        for recipe, name in {"lora": "ours", "linear": "theirs"}.items()
        for data in ACCURACIES
        for seed in (0, 1)
    ]
    (runs / "sweep.json").write_text(json.dumps({"runs": listed}))
    assert [line.name for line in table_of(runs).lines] == ["ours", "theirs"]


def test_folders_without_runs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        find_runs(tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text('{"somebody": "else"}')
    with pytest.raises(FileNotFoundError, match="no runs"):
        find_runs(tmp_path)
    write_run(tmp_path / "a", "lora", "vtab:dtd", 0, 0.5, status="running")
    with pytest.raises(ValueError, match="none of the 1 runs has finished"):
        table_of(tmp_path)


def test_data_that_is_not_vtab(tmp_path: Path) -> None:
    for index, data in enumerate(("digits", "folder:pets")):
        write_run(tmp_path / str(index), "lora", data, 0, 0.4 + 0.2 * index)
    text = markdown(table_of(tmp_path))
    assert "| digits | folder:pets | mean of 2 tasks |" in text
    assert "| lora | 40.00 | 60.00 | 50.00 |" in text


def write_other(folder: Path, recipe: str, data: str, seed: int, **figures: float | None) -> None:
    """A run of another task: the same record with other figures, and a decoder's settings."""
    write_run(folder, recipe, data, seed, 0.0)
    record = json.loads((folder / "run.json").read_text())
    record["results"] = {"split": "test", "epoch": 4, **figures}
    record["settings"]["dense"] = {"restore": "delta", "decoder": "linear"}
    (folder / "run.json").write_text(json.dumps(record))


def test_runs_of_masks_labels_and_numbers_have_their_own_figures(tmp_path: Path) -> None:
    for seed, miou in enumerate((0.4, 0.5)):
        write_other(tmp_path / f"masks-{seed}", "lora", "seg:road", seed, miou=miou, macc=0.9)
    text = markdown(table_of(tmp_path))
    assert "| seg:road, mIoU |" in text and "| lora | 45.00 ± 7.07 |" in text
    assert "mIoU in percent, mean ± sample" in text and "Percent right" not in text
    write_other(tmp_path / "other", "lora", "voc:here", 0, miou=0.7)
    assert "mean of 2 tasks" in markdown(table_of(tmp_path))
    write_other(tmp_path / "labels", "lora", "folder:scenes", 0, map=0.25, f1=0.1)
    write_other(tmp_path / "numbers", "lora", "folder:ages", 0, r2=0.1234, mae=2.0)
    write_run(tmp_path / "classes", "lora", "digits", 0, 0.5)
    text = markdown(table_of(tmp_path))
    for heading in ("digits", "folder:ages, R2", "folder:scenes, mAP", "seg:road, mIoU", "voc:here, mIoU"):
        assert f"| {heading} |" in text
    assert all(figure in text for figure in ("| 50.00 |", "| 0.1234 |", "| 25.00 |", "| 70.00 |"))
    assert "mean of" not in text  # no mean of figures that measure different things
    (rows,) = csv.DictReader(io.StringIO(to_csv(table_of(tmp_path))))
    assert float(rows["seg:road, mIoU"]) == pytest.approx(45.0) and rows["seg:road, mIoU seeds"] == "2"


def test_a_figure_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_other(tmp_path / "none", "lora", "seg:road", 0, miou=None)
    with pytest.raises(ValueError, match=r"the mIoU of .*none is not defined on its test images"):
        table_of(tmp_path)
    write_other(tmp_path / "none-else", "lora", "seg:other", 0, loss=0.5)
    with pytest.raises(ValueError, match="has no accuracy, mAP, R2 or mIoU for a table"):
        table_of(tmp_path)


def test_runs_that_restore_in_other_ways_are_told_apart(tmp_path: Path) -> None:
    for seed, mode in enumerate(("delta", "knn")):
        place = tmp_path / mode
        write_other(place, "lora", "seg:road", seed, miou=0.4)
        file = place / "run.json"
        file.write_text(file.read_text().replace('"delta"', f'"{mode}"'))
    with pytest.raises(ValueError, match=r"differ in restore .* --by recipe restore"):
        table_of(tmp_path)
    names = [line.name for line in table_of(tmp_path, "recipe", "restore").lines]
    assert names == ["lora | restore=delta", "lora | restore=knn"]


def test_the_command(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(runs)]) == 0
    assert "25.00 ± 7.07" in capsys.readouterr().out
    assert main(["table", str(runs), "--markdown", "--csv"]) == 2
    assert "choose one" in capsys.readouterr().err


@given(st.dictionaries(st.sampled_from(sorted(TASKS)), st.floats(0, 100), min_size=1))
@settings(max_examples=100, deadline=None)
def test_group_means_are_those_of_their_members(accuracies: dict[str, float]) -> None:
    found = group_means({f"vtab:{task}": value for task, value in accuracies.items()} | {"digits": 3.0})
    assert list(found) == [group for group in GROUPS if group in found]
    for group in GROUPS:
        members = [value for task, value in accuracies.items() if TASKS[task].group == group]
        assert (group in found) == bool(members)
        if members:
            assert found[group] == pytest.approx(statistics.fmean(members))


@given(st.lists(st.sampled_from([*(f"vtab:{task}" for task in TASKS), "digits", "folder:x"])))
@settings(max_examples=50, deadline=None)
def test_tasks_stand_in_the_papers_order(tasks: list[str]) -> None:
    ordered = in_order(tasks)
    assert sorted(ordered) == sorted(set(tasks))
    published = [f"vtab:{task}" for task in TASKS]
    assert [task for task in published if task in tasks] == list(ordered[: len(set(tasks) & set(published))])


@given(st.integers(10, 200), st.lists(st.integers(1, 30), min_size=2, max_size=12))
@settings(max_examples=50, deadline=None)
def test_a_wide_table_is_printed_in_parts_that_hold_every_column_once(width: int, sizes: list[int]) -> None:
    titles = ["x" * size for size in sizes]
    found = parts(titles, [titles], width)
    assert [index for columns in found for index in columns] == list(range(1, len(sizes)))
    names = names_width([titles], width)
    assert names <= sizes[0] and (names == sizes[0] or names >= 16)
    for columns in found:
        assert len(columns) == 1 or names + sum(sizes[index] + 2 for index in columns) <= width


@pytest.mark.parametrize("width", [60, 80])
def test_long_names_leave_room_for_the_figures(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    name = "LoRA(rank=2, scale=1.0, roles=('query', 'value'), dropout=0.2), EViT(keep=0.7, at=(1, 2))"
    data = "folder:/home/somebody/pictures/of-many-flowers-and-their-gardens?seed=0"
    for seed, top1 in enumerate((0.5, 0.7)):
        write_run(tmp_path / str(seed), name, data, seed, top1)
    print_table(table_of(tmp_path))
    shown = capsys.readouterr().out
    assert "60.00 ± 14.14" in shown and "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    left = "".join(line[: int(0.45 * width)] for line in shown.splitlines())
    assert "".join(name.split()) in "".join(left.split())
