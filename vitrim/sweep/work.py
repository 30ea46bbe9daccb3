"""One run of a sweep as a process of its own: start it, wait for it, stop it, and know where it stands.

Where a run stands is read from the disk alone, so nothing is lost with the process that started it: a run
folder that says finished is finished, one that does not is continued, and the last line of the log says why
one failed. While a process works on a run it holds a lock (an open file that its children inherit), so a
second sweep, or the same one after a kill, does not work on it as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from vitrim.runs.folder import RunFolder
from vitrim.sweep.grid import Job

SAID = "vitrim: "  # how the command line starts its last sentence
PATIENCE = 15.0  # seconds a stopped run may take to end by itself


@dataclass
class Work:
    """A process that makes a run."""

    job: Job
    process: subprocess.Popen[bytes]
    lock: IO[str]
    started: float

    def done(self) -> bool:
        """Whether it has ended; if so, its log says how and the lock is free."""
        code = self.process.poll()
        if code is None:
            return False
        if code and failure(self.job) is None:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            with self.job.log.open("a", encoding="utf-8") as log:
                log.write(f"\n{SAID}the run was ended by {how}; see {self.job.log}\n")
        self.lock.close()
        return True


def start(job: Job, lock: IO[str], environment: Mapping[str, str]) -> Work:
    """Start or continue a run whose lock is held."""
    empty = job.folder / "checkpoints"
    if not (job.folder / "run.json").exists() and empty.is_dir():
        empty.rmdir()  # killed between making the folder and writing to it
    command = job.command(resume=(job.folder / "run.json").is_file())
    with job.log.open("w", encoding="utf-8") as log, _children_hear_ctrl_c():
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, **environment}, start_new_session=True, pass_fds=(lock.fileno(),),
        )  # fmt: skip
    return Work(job, process, lock, time.monotonic())


@contextmanager
def _children_hear_ctrl_c() -> Iterator[None]:
    """Processes started meanwhile can be stopped by SIGINT, although this one ignores it, as what a script
    starts with `&` or `nohup` does: that they would inherit, but a handler they do not."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def take(job: Job) -> IO[str] | None:
    """The lock of a run, or None where it is taken."""
    try:
        import fcntl
    except ImportError:
        raise ImportError("sweeps need the file locks of Linux and macOS; on Windows use WSL") from None
    for path in (job.log, job.lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = job.lock.open("a", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def stop(works: list[Work]) -> None:
    """Ask runs to end, as Ctrl-C would, and end those that do not; their checkpoints stay."""
    for work in works:
        if work.process.poll() is None:
            work.process.send_signal(signal.SIGINT)
    until = time.monotonic() + PATIENCE
    for work in works:
        try:
            work.process.wait(max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            os.killpg(work.process.pid, signal.SIGKILL)
            work.process.wait()
        work.lock.close()


def finished(job: Job) -> bool:
    return record_of(job).get("status") == "finished"


def record_of(job: Job) -> dict[str, Any]:
    """run.json, or nothing where there is none yet."""
    folder = RunFolder(job.folder)
    return folder.record() if folder.record_file.is_file() else {}


def failure(job: Job) -> str | None:
    """The sentence a run failed with; None where it did not."""
    if not job.log.is_file():
        return None
    text = job.log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
    if not text.startswith(SAID) or text.startswith(f"{SAID}stopped"):
        return None
    return text.removeprefix(SAID)


def state(job: Job) -> str:
    """finished, failed, interrupted or waiting; whether it runs right now is known to who started it."""
    record = record_of(job)
    if record.get("status") == "finished":
        return "finished"
    if failure(job) is not None:
        return "failed"
    return "interrupted" if record else "waiting"
