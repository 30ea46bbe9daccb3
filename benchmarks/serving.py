"""Does `vitrim serve` answer right, and how fast, while strangers send rubbish?

Starts a real server on loopback with four adapters on the bundled backbone (made here), and drives it with
many clients at once. Good requests (four forms, pictures of many formats) are compared with what `vitrim
predict` says of the same file; bad ones (cut short, a header of 30,000 x 30,000 pixels, no picture, an
adapter that is not there, 100 MB with and without a declared length) must be refused with their status. A
wrong answer, a lost connection, a server that ends by itself, or memory that goes on growing makes the exit
code 1.

    python benchmarks/serving.py --seconds 60 --clients 64 --json serving.json
"""

import argparse
import asyncio
import itertools
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from serving_requests import (
    CLASSES,
    EXPECTED,
    FORMS,
    TOP,
    bad_request,
    good_request,
    make_adapters,
    make_pictures,
)

from vitrim.measuring.machine import machine, versions

TOLERANCE = 1e-3  # of probabilities: batches of other sizes round otherwise
GROWTH = 1.15  # memory in the second half of the run may be this much of the most in the first half


@dataclass
class Seen:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    difference: float = 0.0
    memory: list[tuple[float, float]] = field(default_factory=list)


def offline(run: Path, pictures: Path) -> dict[str, list[tuple[str, float]]]:
    """What `vitrim predict` says of every picture."""
    command = [sys.executable, "-m", "vitrim", "predict", run, pictures, "--top", TOP, "--json", "-"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return {
        Path(row["path"]).name: [(guess["class"], guess["probability"]) for guess in row["predictions"]]
        for row in json.loads(done.stdout)
    }


def judge(form: str, answer: dict, expected: list[tuple[str, float]], adapter: str) -> float:
    """The largest difference in probability; infinite where the classes or their order differ."""
    if form == "protocol":
        shares = answer["outputs"][0]["data"]
        best = sorted(range(CLASSES), key=lambda index: -shares[index])[:TOP]
        given = [(f"{adapter} {index}", shares[index]) for index in best]
    else:
        given = [(guess["class"], guess["probability"]) for guess in answer["results"][0]["predictions"]]
    difference = max(abs(one[1] - other[1]) for one, other in zip(given, expected, strict=True))
    close = all(abs(one[1] - other[1]) < 2 * TOLERANCE for one, other in itertools.pairwise(expected))
    same = [name for name, _ in given] == [name for name, _ in expected]
    return difference if same or close else float("inf")


async def client(
    number: int,
    http: httpx.AsyncClient,
    until: float,
    known: dict,
    pictures: list[Path],
    seen: Seen,
    hostile: float,
) -> None:
    drawn = random.Random(number)
    while time.monotonic() < until:
        adapter, picture = drawn.choice(list(known)), drawn.choice(pictures)
        bad = drawn.random() < hostile
        weights = [4, 4, 4, 4, 1, 1]
        kind = drawn.choices(list(EXPECTED), weights)[0] if bad else drawn.choice(FORMS)
        request = (bad_request if bad else good_request)(kind, adapter, picture)
        started = time.perf_counter()
        try:
            answer = await http.post(**request)
        except httpx.HTTPError as error:
            seen.wrong.append(f"{kind}: {type(error).__name__} {error}")
            continue
        seen.statuses[f"{kind}: {answer.status_code}"] += 1
        if bad:
            if answer.status_code != EXPECTED[kind] or not answer.json().get("error"):
                seen.wrong.append(f"{kind}: {answer.status_code} {answer.text[:200]}")
            continue
        seen.seconds.append(time.perf_counter() - started)
        if answer.status_code != 200:
            seen.wrong.append(f"{kind} of {picture.name}: {answer.status_code} {answer.text[:200]}")
            continue
        difference = judge(kind, answer.json(), known[adapter][picture.name], adapter)
        seen.difference = max(seen.difference, difference)
        if difference > TOLERANCE:
            seen.wrong.append(f"{adapter} on {picture.name} as {kind}: {answer.text[:300]}")


async def watch_memory(process: subprocess.Popen, until: float, seen: Seen) -> None:
    """Resident megabytes of the server, while it lives."""
    while time.monotonic() < until and process.poll() is None:
        fields = Path(f"/proc/{process.pid}/statm").read_text().split()
        seen.memory.append((time.monotonic(), int(fields[1]) * 4096 / 1e6))
        await asyncio.sleep(0.25)


async def drive(address: str, process: subprocess.Popen, known: dict, pictures: list[Path], chosen) -> Seen:
    seen = Seen()
    limits = httpx.Limits(max_connections=chosen.clients, max_keepalive_connections=chosen.clients)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=120) as http:
        until = time.monotonic() + chosen.seconds
        work = [
            client(number, http, until, known, pictures, seen, chosen.hostile)
            for number in range(chosen.clients)
        ]
        await asyncio.gather(watch_memory(process, until, seen), *work)
    return seen


def figures(seen: Seen, chosen: argparse.Namespace, exit_code: int) -> dict[str, object]:
    memory = [megabytes for _, megabytes in seen.memory]
    half = len(memory) // 2
    cuts = statistics.quantiles(seen.seconds, n=100)
    return {
        "clients": chosen.clients,
        "seconds": chosen.seconds,
        "good answers": len(seen.seconds),
        "good answers a second": len(seen.seconds) / chosen.seconds,
        "p50 ms": 1000 * cuts[49],
        "p99 ms": 1000 * cuts[98],
        "statuses": dict(sorted(seen.statuses.items())),
        "wrong": seen.wrong,
        "largest difference in probability": seen.difference,
        "memory MB": {"at the start": memory[0], "most, first half": max(memory[:half]), "most": max(memory)},
        "memory bounded": max(memory[half:]) <= GROWTH * max(memory[:half]),
        "exit code after SIGTERM": exit_code,
        "machine": machine(),
        "versions": versions(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--hostile", type=float, default=0.1, help="share of bad requests")
    parser.add_argument("--json", type=Path, help="write the figures there")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = make_adapters(Path(folder))
        pictures = make_pictures(Path(folder) / "pictures")
        known = {name: offline(run, Path(folder) / "pictures") for name, run in runs.items()}
        command = [sys.executable, "-m", "vitrim", "serve", *map(str, runs.values()), "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        address = next(word for word in process.stdout.readline().split() if word.startswith("http"))
        try:
            seen = asyncio.run(drive(address, process, known, pictures, chosen))
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    found = figures(seen, chosen, code)
    for name, value in found.items():
        print(f"{name}: {value if not isinstance(value, float) else round(value, 6)}")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return int(bool(seen.wrong) or not found["memory bounded"] or code != 0)


if __name__ == "__main__":
    sys.exit(main())
