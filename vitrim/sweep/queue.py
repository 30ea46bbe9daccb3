"""Work through runs on one machine: a few at a time, each with its share of the CPU or a GPU of its own."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from vitrim.measuring.machine import cpu_count
from vitrim.sweep.grid import Job
from vitrim.sweep.work import Work, finished, start, stop, take

PAUSE = 0.2  # seconds between looks at the processes
Place = Mapping[str, str]  # environment variables of a run: its GPU, its threads
Tell = Callable[[Job, str, float], None]
"""told of a run, what happened (found finished, started, submitted, ended) and after how many seconds"""


def places(workers: int | None, gpus: Sequence[str]) -> list[Place]:
    """Where runs can go: one per GPU, several on each where there are more workers, or shares of the CPU."""
    count = workers if workers is not None else max(len(gpus), 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"workers must be a whole number of at least 1, got {workers!r}")
    threads = {"OMP_NUM_THREADS": str(max(cpu_count() // count, 1))}
    if "OMP_NUM_THREADS" in os.environ and count == 1:
        threads = {}
    return [
        {**threads, **({"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {})}
        for index in range(count)
    ]


def visible_gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if count and named:
        return [part.strip() for part in named.split(",") if part.strip()][:count]
    return [str(index) for index in range(count)]


def run_here(jobs: Sequence[Job], where: Sequence[Place], tell: Tell) -> None:
    """Make all runs. Ctrl-C, or a request to end, stops those in progress and raises KeyboardInterrupt."""
    waiting = deque(jobs)
    free = deque(where)
    working: list[tuple[Work, Place]] = []
    with requests_to_end() as check:
        try:
            while waiting or working:
                check()
                start_waiting(waiting, free, working, tell)
                time.sleep(PAUSE)
                for work, place in [pair for pair in working if pair[0].done()]:
                    working.remove((work, place))
                    free.append(place)
                    tell(work.job, "ended", time.monotonic() - work.started)
        except BaseException:
            stop([work for work, _ in working])
            raise


def start_waiting(
    waiting: deque[Job], free: deque[Place], working: list[tuple[Work, Place]], tell: Tell
) -> None:
    """Start runs while there is room; those that another process works on come back later."""
    for _ in range(len(waiting)):
        if not free:
            return
        job = waiting.popleft()
        lock = take(job)
        if lock is None:
            waiting.append(job)
        elif finished(job):
            lock.close()
            tell(job, "found", 0.0)
        else:
            place = free.popleft()
            working.append((start(job, lock, place), place))
            tell(job, "started", 0.0)


@contextmanager
def requests_to_end() -> Iterator[Callable[[], None]]:
    """Ctrl-C, and requests to end (SIGTERM, as batch systems send it), raise KeyboardInterrupt where the
    function that this gives is called, and nowhere else: a run that is being started must first be known to
    whoever is to stop it.
    """
    asked: list[int] = []

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a shell
                before[number] = signal.signal(number, lambda given, _: asked.append(given))
    except ValueError:  # not the main thread: then signals are somebody else's
        yield check
        return
    try:
        yield check
    finally:
        for ended, handler in before.items():
            signal.signal(ended, handler)
