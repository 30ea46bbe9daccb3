"""Many adapters on one backbone: memory of each beside its file, time to add it, and time to switch.

    python benchmarks/adapter_pool.py                                  # every tuner on ViT-B/16, CPU
    python benchmarks/adapter_pool.py --model vit_small_patch16_224 --rounds 9 --json pool.json

All weights are random: what is measured does not depend on them. `look-up` is the time until the model of
another adapter is at hand. `first run` is what a forward pass right after another adapter's takes more than
one right after its own, by turns (A B A B ... against B B ...), median and quartiles of this process's CPU
time, divided by the threads: whatever has to be brought near again is in there. The first row, a linear
probe beside a linear probe, shows the noise.
"""

import argparse
import gc
import json
import shlex
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vitrim import METHODS, TUNERS, AdapterPool, FisherDelta, compose, save
from vitrim.backbones.opening import open_backbone
from vitrim.files.sharing import twin_of
from vitrim.measuring.machine import machine, versions
from vitrim.methods.selection.candidates import candidates
from vitrim.network.model import StagedViT

PER_NEURON = 4  # of FisherDelta: the size that the TR-PTS paper trains


def composed(name: str, vit: torch.nn.Module, classes: int) -> StagedViT:
    """The tuner with its defaults on the memory of the backbone."""
    bare = compose(twin_of(vit), num_classes=classes)
    if name != "FisherDelta":
        return compose(twin_of(vit), METHODS[name].example(bare), num_classes=classes)
    counts = (PER_NEURON,) * len(candidates(bare))
    model = compose(twin_of(vit), FisherDelta(counts=counts), num_classes=classes)
    for candidate in candidates(model):
        rows, columns = candidate.layer.weight.shape
        index = torch.rand(rows, columns).topk(PER_NEURON, dim=1).indices.sort(1).values
        candidate.layer.entries.choose(index, share=0.0)
    return model


def seconds(pool: AdapterPool, images: torch.Tensor, adapter: str) -> float:
    """CPU time for each thread: what others do on this machine does not count."""
    start = time.process_time()
    pool.logits(images, adapter)
    return (time.process_time() - start) / torch.get_num_threads()


def look_up(pool: AdapterPool, names: list[str], count: int = 2000) -> float:
    """Seconds to have another adapter's model at hand."""
    start = time.perf_counter()
    for index in range(count):
        pool.model(names[index % len(names)])
    return (time.perf_counter() - start) / count


def measured(pool: AdapterPool, name: str, file: Path, rounds: int) -> dict[str, Any]:
    start = time.perf_counter()
    pool.add(name, file)
    added = time.perf_counter() - start
    images = torch.randn(1, 3, *pool.describe(name).image_size)
    extra = []
    for _ in range(rounds):
        pool.logits(images, "other")
        after_other = seconds(pool, images, name)
        extra.append(1000 * (after_other - seconds(pool, images, name)))
    return {
        "tuner": name,
        "file": file.stat().st_size,
        "memory": pool.describe(name).bytes,
        "add": 1000 * added,
        "look_up": 1e6 * look_up(pool, [name, "other"]),
        "first_run": statistics.quantiles(extra, n=4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="vit_base_patch16_224")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--tuners", nargs="*", default=list(TUNERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    vit, _ = open_backbone(given.model)
    pool = AdapterPool(vit)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "adapter.safetensors"
        save(composed("Linear", vit, given.classes), file)
        pool.add("other", file)
        rows.append(measured(pool, "Linear (noise)", file, given.rounds))
        for tuner in given.tuners:
            save(composed(tuner, vit, given.classes), file)
            rows.append(measured(pool, tuner, file, given.rounds))
            pool.remove(tuner)
            gc.collect()
    print(f"{shlex.join(['python', *sys.argv])}\n{datetime.now(UTC):%Y-%m-%d}  {machine()}\n{versions()}\n")
    print("| tuner | file MB | memory MB | memory / file | add, ms | look-up, us | first run, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        low, middle, high = row["first_run"]
        size, held = row["file"] / 1e6, row["memory"] / 1e6
        print(
            f"| {row['tuner']} | {size:.3f} | {held:.3f} | {held / size:.2f} | {row['add']:.0f} | "
            f"{row['look_up']:.1f} | {middle:+.1f} ({low:+.1f} to {high:+.1f}) |"
        )
    if given.json:
        about = {"command": sys.argv, "machine": machine(), "versions": versions(), "rows": rows}
        given.json.write_text(json.dumps(about, indent=1))


if __name__ == "__main__":
    main()
