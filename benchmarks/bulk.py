"""Bulk prediction, killed at random: does the table come out as if nothing had happened, and how fast is it?

    python benchmarks/bulk.py --images 2000 --kills 10 --ray --json bulk.json

Random JPEGs, the bundled backbone with LoRA and EViT. One run without interruption; one that is killed
(SIGKILL, after a random time) again and again, then let finish (a table that is finished before it was killed
often enough is compared, and another begun); with --ray one on a Ray cluster of two nodes of one CPU; and the
plain loop of `vitrim.predict` over the same images, for the speed. Tables are compared byte by byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import torch
from PIL import Image

import vitrim

SCRIPT = "import sys; from vitrim.cli.main import main; sys.exit(main(sys.argv[1:]))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = measure(Path(place), given)
    text = json.dumps(found, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


def measure(place: Path, given: argparse.Namespace) -> dict[str, object]:
    make_pictures(place / "pictures", given.images, given.size)
    run = make_model(place / "model.safetensors")
    whole = place / "whole.parquet"
    begin = time.monotonic()
    subprocess.run(command(run, place, whole, given), check=True)
    alone = time.monotonic() - begin
    found: dict[str, object] = {"images": given.images, "pixels": given.size, "seconds_of_the_command": alone}
    found |= killed_at_random(run, place, whole, alone, given)
    found |= speeds(run, place)
    if given.ray:
        found |= on_ray(run, place, whole, given)
    return found


def make_pictures(folder: Path, count: int, size: int) -> None:
    """Smooth noise as JPEG, of which every 97th is cut short."""
    rng = numpy.random.default_rng(0)
    for index in range(count):
        file = folder / f"{index % 10}" / f"{index:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), numpy.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(file, quality=90)
        if index % 97 == 5:
            file.write_bytes(file.read_bytes()[:500])


def make_model(file: Path) -> Path:
    torch.manual_seed(0)
    methods = vitrim.LoRA(rank=4), vitrim.EViT(keep=0.7, at=(3,))
    model = vitrim.compose("vitrim_tiny_patch8_96", *methods, num_classes=10)
    with torch.no_grad():
        for parameter in model.trained().values():
            parameter.copy_(torch.randn(parameter.shape) / 10)
    vitrim.save(model, file, classes=[f"class {index}" for index in range(10)])
    return file


def command(run: Path, place: Path, out: Path, given: argparse.Namespace) -> list[str]:
    asked = ["predict", str(run), str(place / "pictures"), "--out", str(out), "--top", "3", "--embeddings"]
    pace = ["--part_size", "64", "--batch_size", "16", "--device", "cpu", "--workers", str(given.workers)]
    return [sys.executable, "-c", SCRIPT, *asked, *pace]


def killed_at_random(
    run: Path, place: Path, whole: Path, alone: float, given: argparse.Namespace
) -> dict[str, object]:
    """Each time after a random share of what the whole takes."""
    chance, kills, equal = random.Random(given.seed), [], []
    while len(kills) < given.kills:
        out = place / f"killed{len(equal)}.parquet"
        asked = command(run, place, out, given)
        while len(kills) < given.kills and killed(asked, chance.uniform(0.02, 0.7) * alone):
            kills.append(len(list(out.with_name(f"{out.name}.parts").glob("part-*.parquet"))))
        subprocess.run(asked, check=True)
        equal.append(same_bytes(out, whole) and same_bytes(broken_of(out), broken_of(whole)))
    return {"parts_there_when_killed": kills, "tables_equal_the_uninterrupted_one": equal}


def killed(asked: list[str], after: float) -> bool:
    """Whether the command was still running after so many seconds; then it is no more."""
    process = subprocess.Popen(asked, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def broken_of(table: Path) -> Path:
    return table.with_suffix(".broken.csv")


def speeds(run: Path, place: Path) -> dict[str, float]:
    """Images in a second, opening the model included: the median of three rounds, each of all ways."""
    rates: dict[str, list[float]] = {}
    for round_ in range(3):
        for workers in (None, 0, 1, 2):
            begin = time.monotonic()
            if workers is None:
                vitrim.predict(run, good(place), top=3, batch_size=16, device="cpu")
            else:
                out = place / f"speed{round_}{workers}.parquet"
                vitrim.bulk_predict(
                    run, good(place), out, top=3, batch_size=16, workers=workers, device="cpu"
                )
            called = "plain_loop" if workers is None else f"bulk_{workers}_workers"
            rate = len(good(place)) / (time.monotonic() - begin)
            rates.setdefault(f"{called}_images_per_second", []).append(rate)
    return {called: sorted(found)[1] for called, found in rates.items()}


def good(place: Path) -> list[Path]:
    """400 of them; the plain loop would stop at those that are cut short."""
    return [file for file in sorted(place.glob("pictures/*/*.jpg")) if int(file.stem) % 97 != 5][:400]


def on_ray(run: Path, place: Path, whole: Path, given: argparse.Namespace) -> dict[str, object]:
    import ray
    from ray.cluster_utils import Cluster

    memory = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**memory, "include_dashboard": False})
    try:
        cluster.add_node(**memory)
        ray.init(address=cluster.address, log_to_driver=False)
        pictures, out = place / "pictures", place / "ray.parquet"
        sizes = {"part_size": 64, "batch_size": 16}
        done = vitrim.bulk_predict(
            run, pictures, out, top=3, embeddings=True, device="cpu", on="ray", **sizes
        )
        return {
            "ray_nodes": len(done.nodes),
            "ray_equals_the_uninterrupted_one": same_bytes(out, whole),
            "ray_images_per_second": done.now / done.seconds,
        }
    finally:
        ray.shutdown()
        cluster.shutdown()


def same_bytes(first: Path, second: Path) -> bool:
    return first.read_bytes() == second.read_bytes()


if __name__ == "__main__":
    main()
