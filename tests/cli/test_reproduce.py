"""`vitrim reproduce`: its files, runs beside the papers, measured columns, and refusals."""

import csv
import json
from pathlib import Path

import pytest

from vitrim.cli.main import main
from vitrim.data.vtab_tasks import TASKS
from vitrim.papers.measuring import measure_table
from vitrim.papers.runs import accuracies, as_markdown


def finished(folder: Path, task: str, top1: float, status: str = "finished", select: str = "val") -> None:
    folder.mkdir(parents=True)
    settings = {"recipe": "lora", "model": "vit_base_patch16_224", "data": f"vtab:{task}"}
    settings |= {"training": {"select": select, "epochs": 100}}
    record = {"status": status, "settings": settings, "results": {"top1": top1, "split": "test"}}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")


def test_it_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {name: tmp_path / "new" / f"ledger.{name}" for name in ("json", "csv", "markdown")}
    options = [text for name, file in files.items() for text in (f"--{name}", str(file))]
    assert main(["reproduce", "fpet", "--table", "a2", *options]) == 0
    printed = capsys.readouterr().out
    assert "17.6110" in printed
    assert "agrees" in printed
    (first, second, third) = json.loads(files["json"].read_text())["cells"]
    assert (first["row"], first["column"], first["printed"]) == ("AdaptFormer d=8", "FLOPs(G)", "17.61")
    assert first["computed"] == 17.611021056
    lines = list(csv.DictReader(files["csv"].open()))
    assert [line["verdict"] for line in lines] == ["agrees"] * 3
    assert files["markdown"].read_text().startswith("### FPET, Table A2")
    assert {second["row"], third["row"]} == {"AdaptFormer d=1", "FPET-AdaptFormer"}


@pytest.mark.parametrize("record", ['{"status": "finished"}', '{"settings": null}'])
def test_a_record_that_is_none_is_named(record: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(record)
    with pytest.raises(ValueError, match=r"run\.json' is not the record of a run"):
        accuracies(tmp_path)


def test_means_of_a_table_go_with_it_however_its_name_is_written(tmp_path: Path) -> None:
    assert main(["reproduce", "fpet", "--table", "a3", "--csv", str(tmp_path / "a3.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "a3.csv").open()))
    assert "76.22" in [row["printed"] for row in rows if row["column"].startswith("accuracy")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fpett"], "no paper 'fpett'; did you mean fpet"),
        (["fpet", "--table", "A9"], "fpet has no table 'A9'; known are 1, 2, 3, 5, A1, A2, A3, A4"),
        (["fpet", "--table", "A2", "--json", "{tmp}"], "is a folder; give the name of a file"),
        (["fpet", "--table", "A2", "--csv", "{tmp}/file/x.csv"], "cannot make the folder of"),
        (["fpet", "--table", "A2", "--runs", "{tmp}/none"], "no folder"),
        (["fpet", "--table", "A2", "--runs", "{tmp}"], "holds no finished run of a recipe on VTAB-1K"),
        (["all", "--measure"], "--measure takes the rows of one table"),
        (["fpet", "--table", "3", "--measure"], "Table 3 has no row on ViT-B"),
        (["fpet", "--table", "A2", "--measure", "--batch_size", "0"], "batch_size must be at least 1"),
    ],
)
def test_impossible_wishes_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert main(["reproduce", *(text.format(tmp=tmp_path) for text in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_runs_stand_beside_the_papers(tmp_path: Path) -> None:
    finished(tmp_path / "a" / "1", "cifar", 0.70)
    finished(tmp_path / "a" / "2", "cifar100", 0.72)  # another name of the same task
    finished(tmp_path / "b", "dtd", 0.5, status="running")
    finished(tmp_path / "c", "svhn", 0.5)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    found = accuracies(tmp_path)
    assert list(found) == [("lora", "vit_base_patch16_224, 100 epochs")]
    text = as_markdown(found)
    assert (
        "| lora | vit_base_patch16_224, 100 epochs | cifar | 2 | 71.00 | 67.1 (Sparse-Tuning LoRA) |" in text
    )
    assert "2 of 19 tasks" in text
    finished(tmp_path / "d", "kitti", 0.5, select="best-on-test")
    assert "vit_base_patch16_224, 100 epochs, epoch picked on test | kitti" in as_markdown(
        accuracies(tmp_path)
    )


def test_both_means_once_all_tasks_are_run(tmp_path: Path) -> None:
    for task in TASKS.values():
        finished(tmp_path / task.name, task.name, 0.8 if task.group == "natural" else 0.5)
    text = as_markdown(accuracies(tmp_path))
    assert "mean of 19 tasks / of 3 groups |  | 61.05 / 60.00 | 72.25 (Sparse-Tuning LoRA" in text


def test_measured_columns() -> None:
    text = measure_table("fpet", "A2", "vitrim_tiny_patch8_96", batch=1, rounds=3, device="cpu")
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert {"plain backbone", "AdaptFormer d=8", "AdaptFormer d=1", "FPET-AdaptFormer"} <= set(lines)
    assert lines["plain backbone"].split(" | ")[1] == "1.00"
    memory = {
        name: float(line.split(" | ")[5])
        for name, line in lines.items()
        if "backbone" in name or "Ad" in name
    }
    assert memory["plain backbone"] == 1.0
    assert memory["FPET-AdaptFormer"] < memory["AdaptFormer d=8"] < 0.6
