"""Runs of a sweep as jobs of a Slurm cluster, submitted as one array with submitit.

Every job makes one run, in a process of its own as on one machine. A job that Slurm stops at its time limit
or preempts is queued again and goes on from the run's checkpoint.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.sweep.grid import Job
from vitrim.sweep.queue import Tell
from vitrim.sweep.work import finished, start, take

if TYPE_CHECKING:
    import submitit

PAUSE = 0.5  # seconds between looks at the jobs; submitit itself asks Slurm less often


@dataclass(frozen=True)
class ClusterRun:
    """What a cluster job does: one run."""

    job: Job

    def __call__(self) -> None:
        lock = take(self.job)
        if lock is None:
            return  # another process works on it
        if finished(self.job):
            lock.close()
            return
        cpus = os.environ.get("SLURM_CPUS_PER_TASK")
        work = start(self.job, lock, {"OMP_NUM_THREADS": cpus} if cpus else {})
        work.process.wait()
        work.done()

    def checkpoint(self, *given: object, **named: object) -> Any:
        """Called by submitit when the job is stopped: do the same again, which goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_on_cluster(
    jobs: Sequence[Job], folder: Path, settings: Mapping[str, Any], cluster: str, tell: Tell
) -> None:
    """Submit all runs and wait for them. `settings` are submitit's (timeout_min, gpus_per_node,
    slurm_partition, slurm_array_parallelism ...); `cluster` is slurm, or submitit's local or debug.
    """
    if not jobs:
        return
    executor = open_executor(folder / "cluster", settings, cluster)
    with executor.batch():
        submitted = {executor.submit(ClusterRun(job)): job for job in jobs}
    began = time.monotonic()
    for job in jobs:
        tell(job, "submitted", 0.0)
    try:
        while submitted:
            for handle in [handle for handle in submitted if handle.done()]:
                tell(submitted.pop(handle), "ended", time.monotonic() - began)
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        if cluster != "slurm":
            for handle in submitted:
                handle.cancel()
        raise  # what Slurm has goes on there; the same command waits for it


def open_executor(folder: Path, settings: Mapping[str, Any], cluster: str) -> submitit.AutoExecutor:
    """submitit's executor with the sweep's settings; refused in a sentence where something is missing."""
    try:
        import submitit
    except ImportError:
        raise ImportError(
            "a cluster needs submitit; install it with pip install 'vitrim[sweep]', or run here"
        ) from None
    logging.getLogger("submitit").setLevel(logging.ERROR)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    except RuntimeError as error:
        raise ValueError(
            f"no Slurm here ({error}); start the sweep on a login node, or leave out --on"
        ) from None
    try:
        executor.update_parameters(name="vitrim", **settings)
    except (NameError, AssertionError, TypeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"the sweep's slurm settings are not what submitit knows: {said}") from None
    return executor
