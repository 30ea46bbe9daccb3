"""Accuracies of our own runs on VTAB-1K, beside those the papers print."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.data.vtab_tasks import NAMES, TASKS
from vitrim.papers.accuracy import MEANS, Published
from vitrim.papers.verdicts import PAPERS
from vitrim.papers.writing import grid
from vitrim.reading import check_values, read_json

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass
class Results:
    """What the runs of one recipe, trained alike, reached, in percent, by task."""

    by_task: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def mean(self, task: str) -> float | None:
        return statistics.fmean(self.by_task[task]) if self.by_task.get(task) else None


Found = dict[tuple[str, str], Results]  # by recipe, and backbone and length of training


def accuracies(folder: str | Path) -> Found:
    """The finished VTAB-1K runs below a folder.

    Raises:
        FileNotFoundError: where there is no such folder.
        ValueError: where it holds no finished run of a recipe on a task of VTAB-1K, or a record that is none.
    """
    top = Path(folder)
    if not top.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}; give the one that holds your runs")
    found: Found = defaultdict(Results)
    for file in sorted(top.rglob("run.json")):
        try:
            result = result_of(read(file))
        except (KeyError, ValueError):
            raise ValueError(
                f"{str(file)!r} is not the record of a run as vitrim train writes it; move it elsewhere"
            ) from None
        if result is not None:
            recipe, how, task, top1 = result
            found[recipe, how].by_task[task].append(top1)
    if not found:
        raise ValueError(
            f"{str(folder)!r} holds no finished run of a recipe on VTAB-1K; make one with "
            "vitrim train --data vtab:TASK --recipe NAME"
        )
    return dict(found)


def result_of(record: Mapping[str, Any]) -> tuple[str, str, str, float] | None:
    """Recipe, how it was trained, task and accuracy in percent; None of runs that do not belong here."""
    check_values(record, schema(), "run.json")
    task = task_of(record)
    recipe = record.get("settings", {}).get("recipe")
    tested = record.get("status") == "finished" and record["results"]["split"] == "test"
    if not tested or task is None or recipe is None:
        return None
    return recipe, trained_how(record), task, 100 * record["results"]["top1"]


def read(file: Path) -> dict[str, Any]:
    """A run's record; a damaged one is passed over as unfinished."""
    from vitrim.bounds import Open

    try:
        return read_json(file, Open)
    except ValueError:
        return {}


@cache
def schema() -> type[BaseModel]:
    """What is used of a run's record here."""
    from pydantic import create_model

    from vitrim.bounds import Epoch, Name, Open, Share, Text

    training = create_model("Training", __base__=Open, epochs=(Epoch, 0), select=(Name | None, None))
    settings = create_model(
        "Settings", __base__=Open, recipe=(Text | None, None), data=(Text, ""), model=(Text, ""),
        training=(training, training()),
    )  # fmt: skip
    results = create_model("Results", __base__=Open, split=(Name, ""), top1=(Share, 0.0))
    return create_model(
        "Record", __base__=Open, status=(Name, ""), settings=(settings, settings()),
        results=(results, results()),
    )  # fmt: skip


def trained_how(record: Mapping[str, Any]) -> str:
    """Backbone and length of training; runs that kept the epoch best on test are kept apart."""
    settings, training = record["settings"], record["settings"]["training"]
    picked = ", epoch picked on test" if training["select"] == "best-on-test" else ""
    name = str(settings["model"])
    name = Path(name).stem if Path(name).suffix in (".safetensors", ".pth", ".npz") else name
    return f"{name}, {training['epochs']} epochs{picked}"


def task_of(record: Mapping[str, Any]) -> str | None:
    """The task of VTAB-1K that a run was trained on."""
    kind, _, name = str(record.get("settings", {}).get("data")).partition(":")
    known = NAMES.get(name.partition("?")[0].lower().replace("-", "_"))
    return known.name if kind == "vtab" and known else None


def as_markdown(found: Found) -> str:
    """A line for each recipe and task that was run, ours beside the papers'."""
    lines = []
    for (recipe, how), results in found.items():
        for index, task in enumerate(TASKS):
            ours = results.mean(task)
            if ours is None:
                continue
            theirs = [(row, row.tasks[index]) for row in rows_of(recipe) if row.tasks is not None]
            printed = ", ".join(f"{value:.1f} ({PAPERS[row.paper].name} {row.row})" for row, value in theirs)
            lines.append((recipe, how, task, str(len(results.by_task[task])), f"{ours:.2f}", printed or "-"))
        lines.append((recipe, how, *overall(recipe, results)))
    header = ("recipe", "backbone and training", "task", "runs", "ours", "papers")
    return "\n".join(["## Accuracies of runs on this machine", "",
                      *grid(header, lines, "lllrrl"), ""])  # fmt: skip


def rows_of(recipe: str) -> list[Published]:
    """The rows of the papers that a recipe composes; of rows with the same accuracies the first."""
    rows: dict[object, Published] = {}
    for row in MEANS:
        if row.recipe == recipe:
            rows.setdefault(row.accuracies or (row.paper, row.table), row)
    return list(rows.values())


def overall(recipe: str, results: Results) -> tuple[str, str, str, str]:
    """Both means, once all 19 tasks were run."""
    printed = ", ".join(
        f"{row.printed} ({PAPERS[row.paper].name} {row.row}, {row.kind})" for row in rows_of(recipe)
    )
    values = [results.mean(task) for task in TASKS]
    known = [value for value in values if value is not None]
    if len(known) < len(TASKS):
        return f"{len(known)} of {len(TASKS)} tasks", "", "-", printed or "-"
    groups = [[value for value, task in zip(known, TASKS.values(), strict=True) if task.group == group]
              for group in ("natural", "specialized", "structured")]  # fmt: skip
    both = f"{statistics.fmean(known):.2f} / {statistics.fmean(map(statistics.fmean, groups)):.2f}"
    return "mean of 19 tasks / of 3 groups", "", both, printed or "-"
