"""What the trained models of segmentation.py say when patches come back in another way or when a reduction is
put on later, and what one window takes.

    VITRIM_DATA=FOLDER python benchmarks/segmentation_reduced.py --out segmentation --every 8 \
        [--parts modes depth window]

Reads and goes on writing OUT of `segmentation.py`, whose runs `plain`, `evit` and `tome` are needed for the
first two parts, with the same --every.

Parts: `modes` measures one trained model under each way to restore, without more training; `depth` puts a
reducer in one block of the model that was trained without reduction; `window` gives processor time
of 224 and 512 pixels in turns with the plain model (median and quartiles of the ratio within a turn), and
the peak of memory.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from segmentation import COMPOSITIONS, MODEL, Book, given, run_folder, thinned

from vitrim.dense.costing import dense_costs
from vitrim.dense.evaluating import measure, unreduced
from vitrim.dense.model import DenseModel
from vitrim.dense.restoring import RESTORE
from vitrim.dense.saving import load_dense
from vitrim.dense.spec import open_dense_data
from vitrim.measuring.memory import peak_memory

DEPTHS = (0, 2, 4, 6, 8, 10)
AT_DEPTH = {"evit": "EViT(keep=0.7, at=({},))", "bipartite": "Bipartite(at=({},))"}
TIMED = ("lora", "dense adapter", "evit", "evit late", "tome", "bipartite")


def under_mode(name: str, mode: str, spec: str, out: Path) -> dict[str, Any]:
    """A trained model with its patches restored in another way than it was trained with."""
    model = load_dense(run_folder(out, name)).eval()
    whole = unreduced(model)
    model.restore = mode
    try:
        return figures(model, whole, spec)
    except ValueError as error:  # fuse_last with methods that merge
        if "fuse_last" not in str(error):
            raise
        return {"refused": str(error)}


def at_depth(method: str, spec: str, weights: Path, out: Path) -> dict[str, Any]:
    """The head of the plain run on a backbone that is reduced: no weight differs."""
    whole = load_dense(run_folder(out, "plain")).eval()
    model = DenseModel(MODEL, method, classes=whole.table, weights=weights).eval()
    model.head.load_state_dict(whole.head.state_dict())
    return {**figures(model, whole, spec), "gmacs": dense_costs(model).gmacs}


def figures(model: DenseModel, whole: DenseModel, spec: str) -> dict[str, Any]:
    return measure(model, open_dense_data(spec).split("test"), whole=whole).to_json()


@torch.no_grad()
def window(size: int, names: Sequence[str], weights: Path, rounds: int) -> dict[str, Any]:
    """Every composition in turns with the plain model, logits of 150 classes for one picture."""
    models = {
        name: DenseModel(MODEL, *COMPOSITIONS[name], classes=150, weights=weights, image_size=size).eval()
        for name in ("plain", *names)
    }
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    times: dict[str, list[float]] = {name: [] for name in models}
    peaks: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, model in models.items():
            gc.collect()
            started = time.process_time()
            model(image)
            if turn:
                times[name].append(time.process_time() - started)
    for _ in range(3):
        for name, model in models.items():
            peak = peak_memory(lambda model=model: model(image), torch.device("cpu"))
            if peak is not None:
                peaks[name].append(peak)
    return {
        name: {
            "milliseconds": [round(1000 * one, 1) for one in quartiles(times[name])],
            "ratio": [round(one, 3) for one in quartiles(ratios(times[name], times["plain"]))],
            "peak_mib": round(statistics.median(peaks[name]), 1) if peaks[name] else None,
            "gmacs": round(dense_costs(model).gmacs, 3),
        }
        for name, model in models.items()
    }


def ratios(these: Sequence[float], plain: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(these, plain, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=8, help="take every n-th frame")
    parser.add_argument("--rounds", type=int, default=15, help="turns of the window's time")
    parser.add_argument("--parts", nargs="*", default=["modes", "depth", "window"])
    asked = parser.parse_args()
    data, weights = given()
    spec, book = thinned(data, asked.out, asked.every), Book(asked.out / "results.jsonl")
    if "modes" in asked.parts:
        for name in ("evit", "tome"):
            for mode in RESTORE:
                book.measure(f"mode {name} {mode}", lambda n=name, m=mode: under_mode(n, m, spec, asked.out))
    if "depth" in asked.parts:
        for name, form in AT_DEPTH.items():
            for first in DEPTHS:
                book.measure(
                    f"depth {name} {first} delta",
                    lambda f=form, b=first: at_depth(f.format(b), spec, weights, asked.out),
                )
    if "window" in asked.parts:
        for size in (224, 512):
            book.measure(f"window {size}", lambda s=size: window(s, TIMED, weights, asked.rounds))


if __name__ == "__main__":
    main()
