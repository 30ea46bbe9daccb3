"""What a sweep shows while it runs: its table on disk, always whole, and a line per run that ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vitrim.sweep.grid import Job
from vitrim.sweep.rows import Row, row_of_job, write_rows


class Board:
    """Keeps the table on disk up to date and says what happens."""

    def __init__(self, made: Sequence[Job], folder: Path, quiet: bool) -> None:
        self.made = made
        self.folder = folder
        self.quiet = quiet
        self.table = {job.folder: row_of_job(job) for job in made}
        runs = "1 run" if len(made) == 1 else f"{len(made)} runs"
        self.say(f"{runs} in {folder}, {self.count('finished')} finished before")
        self.write()

    def count(self, status: str) -> int:
        return sum(row["status"] == status for row in self.table.values())

    def unfinished(self) -> list[Job]:
        return [job for job in self.made if self.table[job.folder]["status"] != "finished"]

    def rows(self) -> list[Row]:
        return list(self.table.values())

    def tell(self, job: Job, event: str, seconds: float) -> None:
        """Take note of what happened to a run: it was started, submitted, ended, or found to be finished."""
        now = {"started": "running", "submitted": "submitted"}.get(event)
        row = row_of_job(job, now)
        self.table[job.folder] = row
        self.write()
        if now is None:
            self.say(f"[{self.count('finished')}/{len(self.made)}] {job.title}: {outcome(row, seconds)}")

    def stopped(self, on: str) -> str:
        """What to say after Ctrl-C."""
        self.table = {job.folder: row_of_job(job) for job in self.made}
        self.write()
        left = f"stopped with {len(self.unfinished())} of {len(self.made)} runs to do"
        if on == "slurm":
            return f"{left}; those submitted go on by themselves, and the same command makes the rest"
        return f"{left}; the same command goes on with them"

    def write(self) -> None:
        """Put the table in place; folders are named as seen from it."""
        short = [
            row | {"folder": job.folder.relative_to(self.folder).as_posix()}
            for job, row in zip(self.made, self.table.values(), strict=True)
        ]
        write_rows(short, self.folder)

    def say(self, line: str) -> None:
        if not self.quiet:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def outcome(row: Row, seconds: float) -> str:
    """How a run ended, in words."""
    if row["status"] == "finished":
        return f"{100 * row['accuracy']:.2f} % of {row['split']} in {seconds:.0f} s"
    return f"{row['status']}: {row['failure'] or 'the same command goes on with it'}"
