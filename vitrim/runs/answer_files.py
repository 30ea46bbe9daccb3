"""The answers to a split as files: a table of images, the figures of every class, the confusion matrix."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitrim.runs.evaluate import Answers
from vitrim.runs.kinds import Metrics
from vitrim.writing import write_whole, writing

NO_CONFUSION = "a confusion matrix is of classes, and this model's task is {task}; leave it out"


def check_ending(file: str | Path, *allowed: str) -> Path:
    """The file to write, refused before anything is measured where its ending says no known format."""
    path = Path(file).expanduser()
    if path.suffix.lower() not in allowed:
        raise ValueError(f"{str(file)!r} must end in {' or '.join(allowed)}, which says how it is written")
    return path


def write_answers(answers: Answers, file: Path) -> None:
    """One entry for each image: path, truth, prediction, confidence, loss."""
    rows = list(answers.rows())
    if file.suffix.lower() == ".json":
        _write(file, json.dumps(rows, indent=1) + "\n")
        return
    _write(file, table_text(list(map(_flat, rows))))


def write_parts(answers: Answers, file: Path) -> None:
    """The figures of every class, label or target."""
    _write(file, table_text(list(map(dict, answers.metrics.parts))))


def write_confusion(answers: Answers, file: Path) -> None:
    """Images by true class (rows) and by the class given (columns)."""
    if not isinstance(answers.metrics, Metrics):
        raise ValueError(NO_CONFUSION.format(task=answers.task))
    rows = [
        {"true \\ given": name, **dict(zip(answers.names, row, strict=True))}
        for name, row in zip(answers.names, answers.metrics.confusion, strict=True)
    ]
    _write(file, table_text(rows))


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as cells: several labels between bars, a column for each probability."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            cells |= {f"confidence {label}": share for label, share in value.items()}
        else:
            cells[name] = "|".join(value) if isinstance(value, list) else value
    return cells


def _write(file: Path, text: str) -> None:
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text.encode("utf-8", "surrogateescape"))
