"""A finished run as the page reads it: its record, its history, and what it said to every test picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrim.report.summary import name_of, names_of
from vitrim.runs.answered import Answered, read_answered
from vitrim.runs.folder import RunFolder
from vitrim.runs.tested import TestedPictures, read_tested


@dataclass(frozen=True)
class ShownRun:
    """One run.

    Attributes:
        name: what it is called beside the others; no two are called alike.
        folder: where it lies.
        record: run.json.
        history: a row for each epoch.
        tested, answered: right or wrong, and the answers, picture by picture; None in runs of earlier
            versions.
    """

    name: str
    folder: Path
    record: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    tested: TestedPictures | None = None
    answered: Answered | None = None


def read_runs(paths: Sequence[str | Path]) -> list[ShownRun]:
    """The runs in these folders; refused where one has not finished."""
    if not paths:
        raise ValueError("no runs were given; name the folders of finished runs")
    folders = [RunFolder.open(path) for path in paths]
    records = [_finished(folder) for folder in folders]
    names = _names(records, folders)
    return [
        ShownRun(
            name, folder.path, record, folder.history(), read_tested(folder.path),
            read_answered(folder.path, record["results"]["images"]),
        )
        for name, folder, record in zip(names, folders, records, strict=True)
    ]  # fmt: skip


def _names(records: Sequence[Mapping[str, Any]], folders: Sequence[RunFolder]) -> list[str]:
    """By method; by data or folder too where that does not tell them apart."""
    names = names_of(records)
    if len(set(names)) < len(names):
        names = [f"{name_of(record)} on {record['data']['spec']}" for record in records]
    if len(set(names)) < len(names):
        names = [f"{name} ({folder.path.name})" for name, folder in zip(names, folders, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{name} {number}" for number, name in enumerate(names, 1)]
    return names


def _finished(folder: RunFolder) -> dict[str, Any]:
    record = folder.record()
    if record.get("status") != "finished":
        raise ValueError(f"the run {folder.path} has not finished; continue it with resume")
    return folder.record_to_show()
