"""How far a bulk prediction is: a bar on a terminal, a plain line now and then everywhere else."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from vitrim.measuring.durations import in_units

EVERY = 10.0  # seconds between two lines


class Watch(AbstractContextManager["Watch"]):
    """Counts images as they are done. `before` were done by earlier calls and say nothing of the speed."""

    def __init__(self, total: int, before: int, shown: bool) -> None:
        self.total = total
        self.before = self.done = before
        self.shown = shown
        self.began = self.said = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Watch:
        if self.shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = BarColumn(), TextColumn("{task.description}")
            self.bar = Progress(*columns, console=Console(stderr=True, soft_wrap=True), transient=True)
            self.bar.add_task(self.words(), total=self.total, completed=self.done)
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def add(self, images: int) -> None:
        self.done += images
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=self.done, description=self.words())
        elif self.shown and now - self.said >= EVERY:
            self.said = now
            sys.stderr.write(f"{self.words()}\n")
            sys.stderr.flush()

    @property
    def rate(self) -> float:
        """Images in a second, of those done since this began."""
        return (self.done - self.before) / max(time.monotonic() - self.began, 1e-9)

    def words(self) -> str:
        """12,288 of 1,000,000 images, 512.3 images/s, 32 min left"""
        words = f"{self.done:,} of {self.total:,} images"
        if self.done > self.before:
            remaining = (self.total - self.done) / self.rate
            words += f", {self.rate:,.1f} images/s, {in_units(remaining)} left"
        return words
