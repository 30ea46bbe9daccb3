"""A run killed at a dozen random moments goes on to the same end each time, and no file is ever unreadable.

The runs are forked from one process that has done no torch operation yet, so that all of them, and their
continuations, take seconds.
"""

import gc
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from forked_python import python

KILLS = 12


def test_every_kill_is_survived(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [python(), str(Path(__file__)), str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["kills"] == KILLS
    assert report["moments"] >= 3, "the kills did not fall into different moments"


def in_a_fork(out: Path, data: str, kill_after: float | None = None) -> str:
    """Begin the run in a child, or go on with it after every file that is there was read; how far it had come
    until then.
    """
    import time

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            from small_runs import small_run

            os.write(writer, readable(out).encode())
            os.close(writer)
            resume = (out / "run.json").exists()
            small_run(out, data, resume=resume, methods=["LoRA(rank=2, dropout=0.2)"], ema=0.9, epochs=3)
            code = 0
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            os._exit(code)
    os.close(writer)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader) as said:
        moment = said.read()
    status = os.waitpid(child, 0)[1]
    if kill_after is None and status != 0:
        raise SystemExit(f"the run in {out} failed, or a file in it is unreadable after the kill")
    return moment


def readable(folder: Path) -> str:
    """Read every file that is there; how far the run had come."""
    import torch
    from safetensors.torch import load_file

    from vitrim.runs.folder import RunFolder

    run = RunFolder(folder)
    if not run.record_file.exists():
        return "not begun"
    status = run.record()["status"]
    for checkpoint in run.checkpoints.glob("[!.]*.pt"):
        torch.load(checkpoint, weights_only=True)
    if run.model_file.exists():
        load_file(run.model_file)
    kept = [path.name for path in run.checkpoints.glob("[!.]*")]
    return f"{status}, {len(run.history())} rows, {sorted(kept)}"


def main(folder: Path) -> None:
    from time import perf_counter

    import accelerate  # noqa: F401
    import small_runs  # noqa: F401
    import timm.data  # noqa: F401

    import vitrim.training.loop  # noqa: F401  # all of it before the first fork

    gc.collect()
    gc.freeze()  # what was imported is not searched again, and so not copied, by every run
    data = colours(folder)
    started = perf_counter()
    in_a_fork(folder / "whole", data)
    whole_time = perf_counter() - started
    chance, moments = random.Random(0), set()
    for number in range(KILLS):
        out = folder / f"run-{number}"
        in_a_fork(out, data, kill_after=chance.uniform(0.1, 1.0) * whole_time)
        moments.add(in_a_fork(out, data))
        assert_same(out, folder / "whole")
    report = {"kills": KILLS, "moments": len(moments), "seconds": perf_counter() - started}
    sys.stdout.write(json.dumps(report) + "\n")


def colours(folder: Path) -> str:
    """The pictures, made in a child: this process does no torch operation before it forks."""
    from small_runs import colour_folder

    child = os.fork()
    if child == 0:
        colour_folder(folder / "colours", per_class=8)
        os._exit(0)
    os.waitpid(child, 0)
    return f"folder:{folder / 'colours'}"


def assert_same(out: Path, whole: Path) -> None:
    """The same history but for times, and the same weights to the byte."""
    rows = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
        for lines in ((folder / "history.jsonl").read_text().splitlines() for folder in (out, whole))
    ]
    if rows[0] != rows[1]:
        raise SystemExit(f"{out}: another history than the whole run")
    if (out / "model.safetensors").read_bytes() != (whole / "model.safetensors").read_bytes():
        raise SystemExit(f"{out}: another model than the whole run")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
