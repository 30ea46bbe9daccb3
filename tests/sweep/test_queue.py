"""The queue of a sweep, with runs that end at once: nothing is lost, nothing is made twice."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vitrim.settings.run_plan import Asked
from vitrim.sweep import queue
from vitrim.sweep.grid import Job
from vitrim.sweep.queue import places, run_here
from vitrim.sweep.running import refuse_failures
from vitrim.sweep.work import SAID, failure, state, take

FINISH = """
import json, os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
with (folder / "made").open("a") as file:
    file.write(os.environ["OMP_NUM_THREADS"] + " " + os.environ.get("CUDA_VISIBLE_DEVICES", "-") + "\\n")
(folder / "run.json").write_text(json.dumps({"status": "finished"}))
"""
FAIL = (
    f"import sys; print('working'); sys.stderr.write('{SAID}the loss is no longer a number\\n'); sys.exit(2)"
)
BE_KILLED = "import os; os.kill(os.getpid(), 9)"
HANG = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
try:
    (folder / "run.json").write_text(json.dumps({"status": "running"}))  # from here on it may be ended
    time.sleep(60)
except KeyboardInterrupt:
    (folder / "stopped").touch()
    sys.exit(130)
"""


@dataclass(frozen=True)
class Scripted(Job):
    """A run that is a line of Python."""

    script: str = FINISH

    def command(self, resume: bool) -> list[str]:
        return [sys.executable, "-c", self.script, str(self.folder), *(["resume"] if resume else [])]


def scripted(out: Path, name: str, script: str = FINISH) -> Scripted:
    asked = Asked(data="digits", training={"seed": 0})
    return Scripted(name, asked, out / name, out / "logs" / name, out / "locks" / name, script=script)


class Events:
    """What the queue tells."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def __call__(self, job: Job, event: str, seconds: float) -> None:
        self.told.append((job.name, event))


def run(jobs: Sequence[Job], workers: int = 1, gpus: Sequence[str] = ()) -> Events:
    events = Events()
    run_here(jobs, places(workers, gpus), events)
    return events


def made(job: Job) -> list[str]:
    return (job.folder / "made").read_text().split("\n")[:-1]


def test_a_finished_run_is_not_made_again_and_a_failed_one_does_not_stop_the_others(tmp_path: Path) -> None:
    scripts = {"a": FINISH, "b": FAIL, "c": BE_KILLED, "d": FINISH}
    jobs = [scripted(tmp_path, name, script) for name, script in scripts.items()]
    run(jobs, workers=2)
    assert [state(job) for job in jobs] == ["finished", "failed", "failed", "finished"]
    assert failure(jobs[1]) == "the loss is no longer a number"
    assert "signal 9" in str(failure(jobs[2]))
    assert run(jobs).told == [
        ("a", "found"), ("b", "started"), ("b", "ended"), ("c", "started"), ("c", "ended"), ("d", "found"),
    ]  # fmt: skip
    assert len(made(jobs[0])) == 1
    assert run([scripted(tmp_path, "b")]).told[-1] == ("b", "ended")
    assert state(jobs[1]) == "finished"  # once the cause is gone


def test_a_run_that_another_process_works_on_is_waited_for(tmp_path: Path) -> None:
    first, second = scripted(tmp_path, "first"), scripted(tmp_path, "second")
    lock = take(first)
    assert lock is not None

    def other() -> None:
        while not second.folder.exists():
            time.sleep(0.01)
        first.folder.mkdir()
        (first.folder / "run.json").write_text(json.dumps({"status": "finished"}))
        lock.close()

    thread = threading.Thread(target=other)
    thread.start()
    told = run([first, second]).told
    thread.join()
    assert told == [("second", "started"), ("second", "ended"), ("first", "found")]


def test_a_request_while_a_run_is_being_started_stops_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, real = scripted(tmp_path, "a", HANG), queue.start

    def start(*given: Any) -> Any:
        work = real(*given)
        record = job.folder / "run.json"
        while not (record.is_file() and record.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        return work

    monkeypatch.setattr(queue, "start", start)
    with pytest.raises(KeyboardInterrupt):
        run([job])
    assert (job.folder / "stopped").exists()
    lock = take(job)
    assert lock is not None
    lock.close()


@pytest.fixture(params=["default", "ignored"])
def interrupts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ctrl-C as in a terminal, and as a shell leaves it to what a script starts with `&`."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler if request.param == "default" else signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_a_request_to_end_stops_the_runs_and_leaves_them_to_be_continued(tmp_path: Path) -> None:
    jobs = [scripted(tmp_path, "a", HANG), scripted(tmp_path, "b", HANG)]

    def ask() -> None:
        while not (jobs[0].folder / "run.json").is_file():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(jobs)
    thread.join()
    assert (jobs[0].folder / "stopped").exists()
    assert [state(job) for job in jobs] == ["interrupted", "waiting"]
    lock = take(jobs[0])  # free again
    assert lock is not None
    lock.close()
    continued = scripted(tmp_path, "a", "import sys; assert sys.argv[2] == 'resume'; " + FINISH)
    run([continued])
    assert state(continued) == "finished"


def test_a_run_killed_before_its_record_starts_anew(tmp_path: Path) -> None:
    job = scripted(
        tmp_path, "a", "import sys, pathlib; assert not list(pathlib.Path(sys.argv[1]).iterdir()); " + FINISH
    )
    (job.folder / "checkpoints").mkdir(parents=True)
    run([job])
    assert state(job) == "finished"


def test_every_run_has_its_gpu_and_its_share_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "cpu_count", lambda: 8)
    jobs = [scripted(tmp_path, str(number)) for number in range(4)]
    run(jobs, workers=4, gpus=["5", "7"])
    assert sorted(made(job)[0] for job in jobs) == ["2 5", "2 5", "2 7", "2 7"]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places(None, ["0", "1", "2"])] == ["0", "1", "2"]
    assert places(3, []) == [{"OMP_NUM_THREADS": "2"}] * 3


def row(status: str) -> dict[str, str]:
    return {"status": status}


def test_the_exit_code_is_0_only_where_all_runs_are_finished(tmp_path: Path) -> None:
    refuse_failures([row("finished")] * 2, tmp_path)
    with pytest.raises(ChildProcessError, match="1 of 3 runs failed and 1 are finished"):
        refuse_failures([row("finished"), row("failed"), row("interrupted")], tmp_path)
    with pytest.raises(ChildProcessError, match="1 of 2 runs are not finished"):
        refuse_failures([row("finished"), row("running")], tmp_path)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_workers_is_a_number_of_runs(workers: object) -> None:
    with pytest.raises(ValueError, match="workers must be a whole number of at least 1"):
        places(workers, [])  # type: ignore[arg-type]


def test_on_a_cluster(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    from vitrim.sweep.cluster import run_on_cluster

    jobs = [scripted(tmp_path, "a"), scripted(tmp_path, "b", FAIL)]
    events = Events()
    run_on_cluster(jobs, tmp_path, {"timeout_min": 5}, "debug", events)
    assert [state(job) for job in jobs] == ["finished", "failed"]
    assert sorted(events.told) == [(name, event) for name in "ab" for event in ("ended", "submitted")]
    with pytest.raises(ValueError, match="what submitit knows"):
        run_on_cluster(jobs, tmp_path, {"timeout_minn": 5}, "local", events)
    if not os.environ.get("SLURM_JOB_ID"):
        with pytest.raises(ValueError, match="no Slurm here"):
            run_on_cluster(jobs, tmp_path, {}, "slurm", events)
