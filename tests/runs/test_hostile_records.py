"""Records that were damaged or forged are refused in a sentence by every reader, or read; nothing else."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from matplotlib.figure import Figure
from mutations import mutations, refusal

from vitrim.cli.main import main
from vitrim.papers.runs import read as read_of_papers
from vitrim.papers.runs import result_of
from vitrim.report.chart import LIGHT, Chart
from vitrim.report.charts.learning import learning
from vitrim.report.page import page
from vitrim.report.shown_run import read_runs
from vitrim.runs.folder import RunFolder, stored_plan
from vitrim.runs.inspecting import _run
from vitrim.runs.opening import data_of_run
from vitrim.runs.tested import read_tested
from vitrim.settings.run_plan import Asked
from vitrim.sweep.found import read_run, sweep_names
from vitrim.sweep.grouped import make_table
from vitrim.sweep.rows import parquet
from vitrim.sweep.show import markdown
from vitrim.training.loop import plan_to_resume

FINISHED = Path(__file__).parents[1] / "data_of_versions" / "2026-11-21" / "finished"


def of_today(record: dict[str, Any]) -> dict[str, Any]:
    """The record with what has been added since: figures of classes, plug-ins, reasons, a protocol."""
    part = {"accuracy": 0.0, "precision": None, "recall": 0.0, "f1": 0.0, "images": 1}
    results = {
        **record["results"],
        "per_class": [{"name": name, **part} for name in record["data"]["classes"]],
        "confusion": [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    }
    speed = {"name": "folded", "ratio": 0.5, "quartiles": [0.4, 0.6], "batch_size": 8}
    deviation = {"setting": "epochs", "protocol": 100, "yours": 2}
    return {
        "format": 1,
        **record,
        "versions": {"vitrim": "0.1.0"},
        "plugins": {"Own": "own.py"},
        "chosen": {"lr": "given"},
        "init": {"run": "runs/one", "digest": "0", "classifier": "new"},
        "protocol": {"name": "vtab/gps", "follows": "GPS", "deviations": [deviation]},
        "data": {**record["data"], "task": "classify"},
        "results": results,
        "speed": [plain_speed(), speed],
    }


def plain_speed() -> dict[str, Any]:
    return {"name": "plain backbone", "ratio": 1.0, "quartiles": [1.0, 1.0], "batch_size": 8}


@pytest.fixture(autouse=True)
def drawn_and_not_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of pages: every chart is drawn with the numbers it gets, once for the same numbers, and none
    becomes a picture."""
    axes = Figure().subplots()
    drawn: set[str] = set()

    def light_and_dark(chart: Chart, dpi: int = 0) -> tuple[bytes, bytes]:
        values = [cell.cell_contents for cell in chart.draw.__closure__ or ()]
        shown = repr((chart.name, chart.words, chart.rows, values))
        if shown not in drawn:
            axes.clear()
            chart.draw(axes, LIGHT)
            drawn.add(shown)
        return b"", b""

    monkeypatch.setattr(Chart, "light_and_dark", light_and_dark)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for file in ("run.json", "history.jsonl"):
        (tmp_path / file).write_text((FINISHED / file).read_text())
    return tmp_path


def report(run: Path) -> str:
    return page(read_runs([run]))


def table(run: Path) -> str:
    found = read_run(run, None)
    if found is None:
        return "not ours"
    parquet([found.row])
    return markdown(make_table([found]))


def papers(run: Path) -> None:
    try:
        result_of(read_of_papers(run / "run.json"))
    except KeyError as error:  # made a sentence by `accuracies`, with the file's name
        raise ValueError(repr(error)) from None


READERS: Mapping[str, Callable[[Path], object]] = {
    "table": table,
    "report": report,
    "resume": lambda run: (stored_plan(run), RunFolder(run).record_to_resume()),
    "longer": lambda run: plan_to_resume(run, Asked(training={"epochs": 5})),
    "evaluate": lambda run: data_of_run(run, None),
    "inspect": _run,
    "papers": papers,
}


def outcome(read: Callable[[Path], object], run: Path) -> str:
    try:
        read(run)
    except Exception as error:
        return refusal(error)
    return ""


Readers = Mapping[str, Callable[[Path], object]]


def failures(file: Path, record: dict[str, Any], first: Callable[[Path], object], then: Readers) -> list[str]:
    """What ended otherwise than read or refused. Where `first` refuses, the others are not asked: it is what
    all of them read with.
    """
    failed = []
    for what, text in mutations(record):
        file.write_text(text)
        for name, read in {"first": first, **then}.items():
            try:
                if outcome(read, file.parent) and name == "first":
                    break
            except Exception as error:
                failed.append(f"{name}, {what}: {error!r}"[:300])
    return failed


def test_every_field_of_run_json(run: Path) -> None:
    whole = of_today(json.loads((run / "run.json").read_text()))
    (run / "run.json").write_text(json.dumps(whole))
    for name in ("table", "report", "resume", "evaluate", "inspect"):
        assert outcome(READERS[name], run) == ""
    assert not failures(run / "run.json", whole, lambda run: RunFolder(run).record(), READERS)


def test_records_that_are_none_are_refused_by_every_reader(run: Path) -> None:
    whole = json.loads((run / "run.json").read_text())
    for wrong in ("", "[]", "[" * 100_000, "{", json.dumps({**whole, "status": 3}), "\x00" * 10):
        (run / "run.json").write_text(wrong)
        for name, read in READERS.items():
            if name != "papers":  # passes over what is damaged, as unfinished
                assert "run.json is damaged" in outcome(read, run)


def test_every_field_of_the_history(run: Path) -> None:
    first, second = (run / "history.jsonl").read_text().splitlines()
    row = {**json.loads(second), "bad_images": ["a.png"]}
    readers = {
        "history": lambda run: RunFolder(run).history(),
        "report": lambda run: [each.light_and_dark() for each in learning({"run": RunFolder(run).history()})],
        "table": table,
    }
    for what, text in mutations(row):
        (run / "history.jsonl").write_text(f"{first}\n{text}\n")
        for name, read in readers.items():
            if said := outcome(read, run):
                assert "line 2 of" in said, (name, what)
                break


def test_a_line_cut_off_by_a_kill_is_no_damage(run: Path) -> None:
    lines = (run / "history.jsonl").read_text()
    (run / "history.jsonl").write_text(lines + lines[:30])
    assert len(RunFolder(run).history()) == 2
    (run / "history.jsonl").write_text(lines[:30] + "\n" + lines)
    assert "line 1 of" in outcome(lambda run: RunFolder(run).history(), run)


def test_every_field_of_other_records(tmp_path: Path) -> None:
    sweep = {"format": 1, "runs": [{"name": "lora", "folder": "lora/1", "data": "digits", "seed": 1}]}
    tested = {"format": 1, "split": "test", "images": 3, "pictures": "0", "right": "4A=="}
    assert not failures(tmp_path / "sweep.json", sweep, sweep_names, {})
    assert not failures(tmp_path / "tested.json", tested, read_tested, {})


def test_what_a_newer_version_wrote_is_named(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "format": 2, "status": ["new"]}))
    assert "newer vitrim (format 2" in outcome(table, run)
    (run / "run.json").write_text(json.dumps({**record, "later": {"unknown": 1}}))
    assert outcome(table, run) == outcome(report, run) == ""


@pytest.mark.parametrize(
    ("verb", "changed", "words"),
    [
        ("report", {"results": {"top1": "x"}}, "results.top1 is 'x', but should be a valid number"),
        ("table", {"costs": {"gmacs": None}}, "costs.gmacs is None"),
        ("evaluate", {"settings": {}}, "it lacks settings.data"),
        ("inspect", {"settings": []}, "settings is a list (0)"),
        ("train", {"settings": {"training": {"epochs": 10**9}}}, "epochs is 1000000000, but should be less"),
        ("table", {"later": {"rows": [[1], [2, 3**99]]}}, "its later.rows.1.1 is beyond 64 bits"),
    ],
)
def test_the_command_says_it_in_one_line(
    run: Path, verb: str, changed: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, **changed}))
    copyfile(FINISHED / "model.safetensors", run / "model.safetensors")
    given = ["train", "--resume", "--cpu", "--out", str(run)] if verb == "train" else [verb, str(run)]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert words in said and said.startswith("vitrim: ") and said.count("\n") == 1
