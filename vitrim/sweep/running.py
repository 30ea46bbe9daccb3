"""`sweep`: from a sweep file to finished runs and their table, on this machine or on a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitrim.sweep.board import Board
from vitrim.sweep.checking import check
from vitrim.sweep.file import SweepFile, make_sweep, read_sweep
from vitrim.sweep.grid import Job, jobs, listing
from vitrim.sweep.queue import places, run_here, visible_gpus
from vitrim.sweep.rows import Row
from vitrim.writing import write_whole


def sweep(
    file: str | Path | SweepFile | Mapping[str, object],
    out: str | Path | None = None,
    *,
    root: str | Path | None = None,
    model: str | None = None,
    workers: int | None = None,
    on: str = "here",
    download: bool = False,
    cpu: bool = False,
    quiet: bool = False,
) -> list[Row]:
    """Make all runs of a sweep that are not finished, and return the rows of its table.

    Args:
        file: a YAML file, or its content.
        out: folder of the sweep; not given: what the file says.
        root, model: instead of what the file says.
        workers: runs at the same time; not given: one per GPU, or one.
        on: "here", or "slurm" to submit every run to a cluster; "local" and "debug" are submitit's trials.
        download: whether data that is not there may be fetched, by kinds that can.
        cpu: stay on the CPU where there are GPUs.
        quiet: print nothing.

    Raises:
        ValueError, FileNotFoundError: if the file or one of its runs cannot work; nothing was started.
        ChildProcessError: if runs failed; the others are finished.
    """
    asked = read_sweep(file) if isinstance(file, str | Path) else file
    asked = asked if isinstance(asked, SweepFile) else make_sweep(asked)
    asked = replace(
        asked,
        out=asked.out if out is None else str(out),
        root=asked.root if root is None else str(root),
        model=asked.model if model is None else model,
    )
    if asked.out is None:
        raise ValueError("the sweep has no folder to write to; give out, in the file or as --out")
    folder = Path(asked.out).resolve()
    made = jobs(asked, folder, cpu)
    rows = make_runs(
        made, folder, on=on, workers=workers, download=download, cpu=cpu, quiet=quiet, slurm=asked.slurm
    )
    refuse_failures(rows, folder)
    return rows


def make_runs(
    made: Sequence[Job], folder: Path, *, on: str = "here", workers: int | None = None,
    download: bool = False, cpu: bool = False, quiet: bool = False, slurm: Mapping[str, Any] | None = None,
) -> list[Row]:  # fmt: skip
    """Check all jobs, make those that are not finished, and keep the table up to date."""
    if on not in ("here", "slurm", "local", "debug"):
        raise ValueError(f"on must be here or slurm, got {on!r}")
    where = places(workers, [] if cpu or on != "here" else visible_gpus())
    check(made, download)
    folder.mkdir(parents=True, exist_ok=True)
    stored = {"format": 1, "runs": listing(made, folder)}
    write_whole(folder / "sweep.json", (json.dumps(stored, indent=1) + "\n").encode())
    board = Board(made, folder, quiet)
    try:
        if on == "here":
            run_here(board.unfinished(), where, board.tell)
        else:
            from vitrim.sweep.cluster import run_on_cluster

            run_on_cluster(board.unfinished(), folder, slurm or {}, on, board.tell)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(board.stopped(on)) from None
    board.say(
        f"the table: {folder / 'table.csv'}; vitrim table {folder} shows it, vitrim report {folder} draws it"
    )
    return board.rows()


def refuse_failures(rows: Sequence[Row], folder: Path) -> None:
    """Say so where runs failed or are left: an exit code of 0 means that all are finished."""
    failed = sum(row["status"] == "failed" for row in rows)
    left = sum(row["status"] not in ("failed", "finished") for row in rows)
    if failed:
        raise ChildProcessError(
            f"{failed} of {len(rows)} runs failed and {len(rows) - failed - left} are finished; "
            f"{folder}/table.csv says why, and the same command tries again those that failed"
        )
    if left:
        raise ChildProcessError(
            f"{left} of {len(rows)} runs are not finished; the same command goes on with them"
        )
