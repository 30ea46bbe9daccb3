"""As many tokens as the picture needs: time and accuracy of budgets per image beside a fixed share.

    VITRIM_DATA=FOLDER python benchmarks/adaptive.py OUT.jsonl [memory]

What is measured is appended to OUT.jsonl, a line each, and not measured again, so it goes on where it was
stopped: speed first, then memory, then accuracy seed by seed; with a word, only jobs whose name begins with
it. FOLDER holds weights/ (ViT-Tiny), vtab-1k/eurosat and
coco-few/images.

Speed: batches of 32 in turns on one thread. ViT-Tiny has trained weights, and counts of its own. For ViT-S
there are none here, and random weights attend evenly: its queries are scaled until counts spread about as
ViT-Tiny's for the same images. Memory: the peak of a pass over the same batch above the weights and the
images, the median of five. Accuracy: ViT-Tiny with LoRA on EuroSAT at 112 pixels; one checkpoint trained
with a fixed share of 0.7 is measured under every rule and share; another is trained for shares from 0.5 to 1,
others for one each.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from noted import note, noted
from torch import Tensor

from vitrim import EViT, LoRA, compose, costs, costs_on_images, fit, open_data, train
from vitrim.data.images import read_image
from vitrim.data.source import DataSource, Split
from vitrim.data.transforms import eval_transform
from vitrim.measuring.bench import compare
from vitrim.measuring.machine import machine, versions
from vitrim.measuring.memory import peak_memory
from vitrim.network.model import StagedViT
from vitrim.runs.batches import ordered_batches
from vitrim.training.budgets import calibration_batches

SHARES, RULES, SEEDS = (0.5, 0.7, 0.9), ("fixed", "mass", "sampled", "threshold"), (0, 1, 2)
BATCH, ROUNDS, PASSES, TESTED, EPOCHS, PIXELS, AT = 32, 9, 5, 1000, 5, 112, (3, 6, 9)
TINY, SMALL = "vit_tiny_patch16_224", "vit_small_patch16_224"

Job = Callable[[], dict[str, Any]]


def main() -> None:
    if len(sys.argv) not in (2, 3) or "VITRIM_DATA" not in os.environ:
        raise SystemExit(__doc__)
    torch.set_num_threads(1)
    out, data = Path(sys.argv[1]), Path(os.environ["VITRIM_DATA"])
    done = {line["job"] for line in noted(out)}
    for name, job in jobs(data):
        if name in done or not name.startswith("".join(sys.argv[2:])):
            continue
        began = time.process_time()
        row = {"job": name, **job(), "cpu_seconds": round(time.process_time() - began, 1)}
        print(json.dumps(row), flush=True)
        note(out, {**row, "machine": machine(), "versions": versions()})


def jobs(data: Path) -> Iterator[tuple[str, Job]]:
    """What is to be measured, the most important first."""
    weights = next((data / "weights").glob("vit_tiny*.safetensors"))
    files = [str(path) for path in sorted((data / "coco-few" / "images").glob("*.jpg"))]
    splits = {
        "photographs": Split(read_image, files, [0] * len(files)),
        "eurosat": open_data("vtab:eurosat", root=data).split("test"),
    }
    for model in (SMALL, TINY):
        for called, split in splits.items():
            yield f"speed {model} {called}", partial(speed, model, split, weights)
    for model in (SMALL, TINY):
        for called, split in splits.items():
            yield f"memory {model} {called}", partial(memory, model, split, weights)
    for called, method in ways_to_train().items():
        for seed in SEEDS:
            yield f"accuracy {called}, seed {seed}", partial(accuracy, called, method, seed, weights, data)


def ways_to_train() -> dict[str, EViT]:
    """What checkpoints are trained with, the most important first."""
    return {
        "fixed 0.7": EViT(keep=0.7, at=AT),
        "any budget": EViT(keep=0.7, at=AT, train_keep=(0.5, 1.0)),
        "fixed 0.5": EViT(keep=0.5, at=AT),
        "fixed 0.9": EViT(keep=0.9, at=AT),
    }


class Ready(NamedTuple):
    """Models to compare on one batch; mean counts alike."""

    candidates: dict[str, StagedViT]
    images: Tensor
    factor: float | None
    spread: float


def made_ready(name: str, split: Split, weights: Path) -> Ready:
    """Plain, fixed and mass: packed, in sub-batches and padded."""
    tiny = compose(TINY, EViT(keep=0.7, at=AT, budget="mass"), weights=weights).eval()
    tensors = split.with_transform(eval_transform(tiny.preprocess))
    images = torch.stack([tensors[index][0] for index in range(0, len(split), len(split) // BATCH)][:BATCH])
    batch = [(images, torch.zeros(len(images)))]
    fit(tiny, batch)  # on the batch itself: the mean counts are the fixed ones
    spread = last_counts(tiny, images).std()
    bucketed, factor = (tiny, None) if name == TINY else peaked(name, batch, float(spread))
    state = bucketed.state_dict()
    packed, padded = (bare(name, bucketed.methods, state) for _ in range(2))
    for model, execution in ((packed, "packed"), (bucketed, "bucketed"), (padded, "padded")):
        model.set_execution(execution)
    candidates = {
        "fixed": bare(name, [EViT(keep=0.7, at=AT)], state),
        "packed": packed,
        "sub-batches": bucketed,
        "padded": padded,
        "plain": bare(name, [], state),
    }
    return Ready(candidates, images, factor, float(spread))


def memory(name: str, split: Split, weights: Path) -> dict[str, Any]:
    """MiB that a pass of each takes."""
    ready, found = made_ready(name, split, weights), dict[str, list[float | None]]()
    for _ in range(PASSES + 1):
        for called, model in ready.candidates.items():
            with torch.inference_mode():
                peak = peak_memory(partial(model, ready.images), ready.images.device)
            found.setdefault(called, []).append(peak)
    if any(peak is None for peaks in found.values() for peak in peaks):
        raise SystemExit("this system does not tell how much memory a process took")
    return {  # without the first round, which makes what is made once
        "rows": [{"name": called, "mib": median(map(float, peaks[1:])), "all": peaks[1:]}
                 for called, peaks in found.items()]
    }  # fmt: skip


def speed(name: str, split: Split, weights: Path) -> dict[str, Any]:
    """Time of each beside the fixed share."""
    candidates, images, factor, spread = made_ready(name, split, weights)
    bucketed, fixed = candidates["sub-batches"], candidates["fixed"]
    found = compare(candidates, images, ROUNDS)
    counts = costs_on_images(bucketed, [images])
    return {
        "rows": [each.to_json() for each in found],
        "queries_scaled": factor,
        "tokens_mean": counts.tokens.mean(0).tolist(),
        "tokens_last": counts.tokens[:, -1].tolist(),
        "tokens_last_std_tiny": spread,
        "gmacs": {
            "mass": counts.mean,
            "fixed": costs(fixed).gmacs,
            "plain": costs(candidates["plain"]).gmacs,
        },
    }


def bare(name: str, methods: Sequence[EViT], state: dict[str, Tensor]) -> StagedViT:
    model = compose(name, *methods).eval()
    model.load_state_dict(state)
    return model


def last_counts(model: StagedViT, images: Tensor) -> Tensor:
    with torch.no_grad():
        padding = model.run(images)[1].padding
    assert padding is not None
    return torch.tensor(padding.counts).double()


def peaked(name: str, batch: list[tuple[Tensor, Tensor]], spread: float) -> tuple[StagedViT, float]:
    """A random model whose queries are scaled so that counts spread about as much as `spread`."""
    found = []
    for factor in (2.0, 4.0, 8.0, 16.0):
        torch.manual_seed(0)
        model = compose(name, EViT(keep=0.7, at=AT, budget="mass")).eval()
        with torch.no_grad():
            for block in model.vit.blocks:
                block.attn.qkv.weight[: model.width] *= factor
        fit(model, batch)
        found.append((abs(float(last_counts(model, batch[0][0]).std()) - spread), factor, model))
    _, factor, model = min(found, key=lambda each: each[:2])
    return model, factor


def accuracy(called: str, method: EViT, seed: int, weights: Path, root: Path) -> dict[str, Any]:
    """Train one checkpoint, then measure it under rules and shares; calibrated on training images."""
    source = open_data("vtab:eurosat", root=root)
    with tempfile.TemporaryDirectory() as place:
        run = train(
            TINY, source, methods=[method, LoRA(rank=8)], out=Path(place) / "run", weights=weights,
            image_size=PIXELS, training={"epochs": EPOCHS, "batch_size": 32, "seed": seed, "workers": 0},
            cpu=True, quiet=True,
        )  # fmt: skip
    own = called.startswith("fixed") and called != "fixed 0.7"
    asked = [(float(called[-3:]), "fixed")] if own else [(share, rule) for share in SHARES for rule in RULES]
    return {
        "rows": [measured(run.model, share, rule, source) for share, rule in asked],
        "trained_with": repr(method),
    }


def measured(trained: StagedViT, share: float, rule: str, source: DataSource) -> dict[str, Any]:
    """Accuracy on test images under another rule and share, and mean operations."""
    methods = [EViT(keep=share, at=AT, budget=rule), LoRA(rank=8)]
    model = compose(TINY, *methods, num_classes=len(source.classes), image_size=PIXELS).eval()
    model.load_state_dict(trained.state_dict())
    model.preprocess = trained.preprocess
    if rule != "fixed":
        fit(model, calibration_batches(model, source))
    test = source.split("test")
    few = Split(test.read, test.names[:TESTED], test.labels[:TESTED])
    right, images = 0, few.with_transform(eval_transform(model.preprocess))
    with torch.inference_mode():
        for batch, labels in ordered_batches(images, 100, 0):
            right += int((model(batch).argmax(1) == labels).sum())
    row = {"share": share, "rule": rule, "top1": right / len(few), "gmacs": costs(model).gmacs}
    if rule != "fixed":
        row["gmacs"] = costs_on_images(model, [b for b, _ in calibration_batches(model, source)]).mean
    return row


if __name__ == "__main__":
    main()
