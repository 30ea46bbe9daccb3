"""How long a whole NOAH search takes on the bundled backbone and digits, and whether one that is killed comes
to the same.

    python benchmarks/noah_search.py --out runs/noah-search                 # a quarter of an hour or two

Two searches of the same settings from the start. The second is killed with SIGKILL in the middle of its
evolution and continued by the same command. Compared are every subnet measured, byte by byte, the chosen one,
and the accuracy of its retraining on the test images. Seconds are wall time and processor time of the whole
command, with the trainings it starts.
"""

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

SETTINGS = ("--supernet_epochs", "16", "--population", "20", "--generations", "6", "--epochs", "8")
COMPARED = ("evaluated.jsonl", "chosen.json")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a new folder for both searches")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kill_at", type=int, default=50, help="subnets measured before the kill")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    whole, killed = options.out / "whole", options.out / "killed"
    print(f"{processor()}, {os.cpu_count()} CPUs, {options.threads} threads, {date.today()}", flush=True)
    print(f"vitrim {' '.join(command(Path('OUT'))[3:])}\n", flush=True)
    print("whole:    " + seconds_of(whole, options.threads, None), flush=True)
    print("killed:   " + seconds_of(killed, options.threads, options.kill_at), flush=True)
    print("continued:" + seconds_of(killed, options.threads, None), flush=True)
    for name in COMPARED:
        same = (whole / name).read_bytes() == (killed / name).read_bytes()
        print(f"{name}: {'the same' if same else 'DIFFERENT'}")
    for folder in (whole, killed):
        print(f"{folder.name}: {json.dumps(outcome(folder))}")
    if outcome(whole) != outcome(killed):
        sys.exit("the continued search came to something else")


def command(out: Path) -> list[str]:
    return [
        sys.executable, "-m", "vitrim", "search", "--method", "NOAH", "--final", "--cpu", *SETTINGS,
        "--out", str(out),
    ]  # fmt: skip


def seconds_of(out: Path, threads: int, kill_at: int | None) -> str:
    """Run the search, or kill it as soon as so many subnets are measured; what it took."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    log = out.with_suffix(".log").open("a")
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command(out), stdout=log, stderr=subprocess.STDOUT, env=environment)
    while kill_at is not None and measured(out) < kill_at:
        if process.poll() is not None:
            sys.exit(f"the search ended before it could be killed; see {log.name}")
        time.sleep(0.2)
    if kill_at is not None:
        process.send_signal(signal.SIGKILL)
    status = process.wait()
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if status != (0 if kill_at is None else -signal.SIGKILL):
        sys.exit(f"the search failed; see {log.name}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f" {wall:.0f} s, {used:.0f} s of processor, {measured(out)} subnets measured"


def measured(out: Path) -> int:
    """Whole lines behind the first."""
    file = out / "evaluated.jsonl"
    return max(0, file.read_bytes().count(b"\n") - 1) if file.exists() else 0


def outcome(out: Path) -> dict[str, Any]:
    """The chosen subnet, and how its retraining does."""
    chosen = json.loads((out / "chosen.json").read_text())
    (record,) = (out / "final" / "runs").glob("**/run.json")
    results = json.loads(record.read_text())["results"]
    return {
        "methods": chosen["methods"], "val": chosen["accuracy"], "parameters": chosen["parameters"],
        "tried": chosen["tried"], "top1": results["top1"], "loss": results["loss"],
    }  # fmt: skip


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
