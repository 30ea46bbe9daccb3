"""What an epoch takes with and without `cache_frozen`, on real images.

    python benchmarks/frozen_cache.py --data vtab:eurosat --root vtab-1k --model CHECKPOINT

For each composition two runs with the same settings, one that computes everything in every epoch and one that
keeps what its frozen blocks say. Printed are the median processor time of an epoch's training (the first left
out) and its ratio, what it takes to fill the cache and its size, and the accuracy of both.
"""

import argparse
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
from training_step import processor

from vitrim.training import loop, passes

COMPOSITIONS: dict[str, list[str]] = {
    "linear": [],
    "LoRA(rank=8, at=(8, 9, 10, 11))": ["LoRA(rank=8, at=(8, 9, 10, 11))"],
}


@dataclass
class Spent:
    """Processor seconds of one run."""

    epochs: list[float] = field(default_factory=list)
    filling: float = 0.0
    bytes: int = 0
    accuracy: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Epochs with and without cache_frozen.")
    parser.add_argument("--data", default="vtab:eurosat")
    parser.add_argument("--root", default=None)
    parser.add_argument("--model", required=True)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{processor()}, one thread, processor time, torch {torch.__version__}, {date.today()}")
    print(shlex.join(["python", *sys.argv]) + "\n")
    print("| trains | an epoch anew, s | kept, s | ratio | filling, s | MiB | accuracy anew | kept |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, methods in COMPOSITIONS.items():
        anew, kept = (run(options, methods, cached) for cached in (False, True))
        before, after = (statistics.median(each.epochs[1:]) for each in (anew, kept))
        print(
            f"| `{name}` | {before:.2f} | {after:.3f} | {after / before:.3f} | {kept.filling:.1f} "
            f"| {kept.bytes / 2**20:.1f} | {anew.accuracy:.2%} | {kept.accuracy:.2%} |",
            flush=True,
        )


def run(options: argparse.Namespace, methods: list[str], cached: bool) -> Spent:
    spent = Spent()
    training = {
        "epochs": options.epochs, "batch_size": 32, "lr": 1e-3, "augment": "none", "select": "last",
        "test_split": "val", "cache_frozen": cached,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, watched(spent):
        done = loop.train(
            options.model, options.data, methods=methods, root=options.root, training=training,
            out=Path(folder) / "run", cpu=True, quiet=True,
        )  # fmt: skip
    spent.accuracy = done.record["results"]["top1"]
    return spent


@contextmanager
def watched(spent: Spent) -> Iterator[None]:
    """Note processor times; linear probing computes anew too, which it would not by itself."""
    own = passes.train_epoch, loop.keep_frozen, loop.freeze_features

    def epoch(*given: Any) -> float:
        return timed(own[0], given, spent.epochs.append)

    def filling(task: Any, folder: Any, *given: Any) -> Any:
        found = timed(own[1], (task, folder, *given), lambda seconds: setattr(spent, "filling", seconds))
        spent.bytes = sum(file.stat().st_size for file in folder.frozen.iterdir())
        return found

    passes.train_epoch, loop.keep_frozen = epoch, filling
    loop.freeze_features = lambda *_: "to compare"
    try:
        yield
    finally:
        passes.train_epoch, loop.keep_frozen, loop.freeze_features = own


def timed(act: Callable[..., Any], given: tuple[Any, ...], note: Callable[[float], Any]) -> Any:
    began = time.process_time()
    found = act(*given)
    note(time.process_time() - began)
    return found


if __name__ == "__main__":
    main()
