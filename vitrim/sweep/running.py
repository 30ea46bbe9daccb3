"""`sweep`: from a sweep file to finished runs and their table, on this machine or on a cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitrim.saving import write_whole
from vitrim.sweep.file import SweepFile, make_sweep, read_sweep
from vitrim.sweep.grid import Job, check, jobs, listing
from vitrim.sweep.queue import places, run_here, visible_gpus
from vitrim.sweep.rows import Row, row_of_job, write_rows
from vitrim.sweep.work import state


def sweep(
    file: str | Path | SweepFile | Mapping[str, object],
    out: str | Path | None = None,
    *,
    root: str | Path | None = None,
    model: str | None = None,
    workers: int | None = None,
    on: str = "here",
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
        cpu: stay on the CPU where there are GPUs.
        quiet: print nothing.

    Raises:
        ValueError, FileNotFoundError: if the file or one of its runs cannot work; nothing was started.
        ChildProcessError: if runs failed; the others are finished.
    """
    asked = read_sweep(file) if isinstance(file, str | Path) else file
    asked = asked if isinstance(asked, SweepFile) else make_sweep(asked)
    changes = {"out": out, "root": root, "model": model}
    asked = replace(asked, **{key: str(value) for key, value in changes.items() if value is not None})
    if asked.out is None:
        raise ValueError("the sweep has no folder to write to; give out, in the file or as --out")
    folder = Path(asked.out).resolve()
    made = jobs(asked, folder, cpu)
    return make_runs(made, folder, on=on, workers=workers, cpu=cpu, quiet=quiet, slurm=asked.slurm)


def make_runs(
    made: Sequence[Job], folder: Path, *, on: str = "here", workers: int | None = None, cpu: bool = False,
    quiet: bool = False, slurm: Mapping[str, Any] | None = None,
) -> list[Row]:  # fmt: skip
    """Check all jobs, make those that are not finished, and keep the table up to date."""
    if on not in ("here", "slurm", "local", "debug"):
        raise ValueError(f"on must be here or slurm, got {on!r}")
    where = places(workers, [] if cpu or on != "here" else visible_gpus())
    check(made)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(
        folder / "sweep.json", (json.dumps({"runs": listing(made, folder)}, indent=1) + "\n").encode()
    )
    board = Board(made, folder, quiet)
    try:
        if on == "here":
            run_here(board.unfinished(), where, board.tell)
        else:
            from vitrim.sweep.cluster import run_on_cluster

            run_on_cluster(board.unfinished(), folder, slurm or {}, on, board.tell)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(board.stopped()) from None
    failed = [job for job in made if state(job) == "failed"]
    if failed:
        others = "the others are finished" if len(failed) < len(made) else "none is finished"
        raise ChildProcessError(
            f"{len(failed)} of {len(made)} runs failed and {others}; {folder / 'table.csv'} says why, and the "
            "same command tries again those that failed"
        )
    return board.rows()


class Board:
    """Keeps the table on disk up to date and says what happens."""

    def __init__(self, made: Sequence[Job], folder: Path, quiet: bool) -> None:
        self.made = made
        self.folder = folder
        self.quiet = quiet
        self.running: set[Path] = set()
        self.done = sum(state(job) == "finished" for job in made)
        self.say(f"{len(made)} runs in {folder}, {self.done} of them finished before")
        self.write()

    def unfinished(self) -> list[Job]:
        return [job for job in self.made if state(job) != "finished"]

    def tell(self, job: Job, event: str, seconds: float) -> None:
        """Take note of what happened to a run."""
        if event == "started":
            self.running.add(job.folder)
        else:
            self.running.discard(job.folder)
            self.done += state(job) == "finished"
            self.say(f"[{self.done}/{len(self.made)}] {job.title}: {self.outcome(job, seconds)}")
        self.write()

    def outcome(self, job: Job, seconds: float) -> str:
        row = row_of_job(job)
        if row["status"] == "finished":
            return f"{100 * row['accuracy']:.2f} % of {row['split']} in {seconds:.0f} s"
        return f"{row['status']}: {row['failure'] or 'the same command goes on with it'}"

    def stopped(self) -> str:
        """What to say after Ctrl-C."""
        self.running.clear()
        self.write()
        left = len(self.unfinished())
        return f"stopped with {left} of {len(self.made)} runs to do; the same command goes on with them"

    def rows(self) -> list[Row]:
        return [row_of_job(job, running=job.folder in self.running) for job in self.made]

    def write(self) -> None:
        write_rows(self.rows(), self.folder)

    def say(self, line: str) -> None:
        if not self.quiet:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
