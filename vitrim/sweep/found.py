"""The finished runs below a folder, by name: those of sweeps as the sweep calls them, others by recipe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrim.reading import read_json
from vitrim.runs.folder import RunFolder
from vitrim.settings.task_kinds import TaskKind, kind_of
from vitrim.sweep.rows import Row, row_of_record


@dataclass(frozen=True)
class Found:
    """A run folder: its row, and the settings that tell it from other runs."""

    row: Row
    settings: Mapping[str, Any]
    notes: tuple[str, ...]
    """what its data says about itself"""
    kind: TaskKind | None
    """which figure its results are known by; None where there are none yet"""
    figure: float | None
    """that figure; None where it is not defined"""


def find_runs(folder: str | Path) -> list[Found]:
    """All run folders in and below a folder, in the order of the sweeps they belong to, then by path.

    Raises:
        FileNotFoundError: if there is none.
    """
    top = Path(folder)
    if not top.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}; give a folder that holds runs")
    names: dict[Path, str] = {}
    places = []
    for path, below, files in os.walk(top):
        below[:] = sorted(name for name in below if name != "checkpoints" and not name.startswith("."))
        if "sweep.json" in files:
            names |= sweep_names(Path(path))
        if "run.json" in files:
            places.append(Path(path))
    listed = {place: index for index, place in enumerate(names)}
    places.sort(key=lambda place: (listed.get(place, len(listed)), str(place)))
    found = [run for place in places if (run := read_run(place, names.get(place))) is not None]
    if not found:
        raise FileNotFoundError(f"no runs in {str(folder)!r}; give a folder of vitrim sweep or vitrim train")
    return found


def sweep_names(folder: Path) -> dict[Path, str]:
    """What a sweep calls its runs, by folder."""
    from vitrim.sweep.records import SweepRecord

    stored = read_json(folder / "sweep.json", SweepRecord)
    return {folder / run["folder"]: run["name"] for run in stored["runs"]}


def read_run(folder: Path, name: str | None) -> Found | None:
    """A run folder's content; None where run.json is not one of ours."""
    from vitrim.bounds import Open

    place = RunFolder(folder)
    if not {"settings", "costs", "data", "status"} <= set(read_json(place.record_file, Open)):
        return None
    record = place.record()
    row = row_of_record(record, folder)
    settings = dict(flattened(record["settings"]))
    results = record.get("results") or {}
    kind = kind_of(results)
    return Found(
        row | ({} if name is None else {"recipe": name}), settings, tuple(record["data"]["notes"]),
        kind, None if kind is None else results[kind.figure],
    )  # fmt: skip


def flattened(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings of the run, of its training and of its decoder side by side, without the places of files."""
    for name, value in settings.items():
        if name in ("training", "dense"):
            yield from value.items()
        elif name not in ("root",):
            yield name, value
