"""Time of the pass over training images that scores every weight (TR-PTS, GPS), and whether per-sample scores
equal those of a loop over single images.

python benchmarks/score_pass.py --threads 2
"""

import argparse
import shlex
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim import FisherDelta, compose
from vitrim.measuring.machine import machine, versions
from vitrim.methods.selection.scores import measure_scores
from vitrim.network.model import StagedViT

MEASURES = ("per_sample", "batch", "gradient")


def batches(images: int, size: int, side: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random images: the time of the pass does not depend on what is on them."""
    numbers = torch.Generator().manual_seed(0)
    for first in range(0, images, size):
        count = min(size, images - first)
        yield torch.randn(count, 3, side, side, generator=numbers), torch.arange(count) % 10


def seconds(model: StagedViT, measure: str, images: int, size: int, side: int) -> tuple[float, float]:
    """By the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    measure_scores(model, batches(images, size, side), FisherDelta(), measure)
    return time.perf_counter() - clock, time.process_time() - processor


def furthest_from_a_loop(name: str, images: int) -> float:
    """The largest relative difference of a matrix of scores from squared gradients of one image at a time, in
    float64.
    """
    model = compose(name, num_classes=10).double().eval()
    side = model.preprocess.image_size[0]
    given = [(pixels.double(), labels) for pixels, labels in batches(images, images, side)]
    scores = measure_scores(model, given, FisherDelta(), "per_sample").values
    weights = {key: model.vit.get_parameter(key).requires_grad_(True) for key in scores}
    squares = {key: torch.zeros_like(value) for key, value in scores.items()}
    for pixels, label in zip(*given[0], strict=True):
        loss = F.cross_entropy(model(pixels[None]), label[None])
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for key, gradient in zip(weights, gradients, strict=True):
            squares[key] += gradient.square() / images
    return max(float((scores[key] - squares[key]).norm() / squares[key].norm()) for key in scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    model = compose(chosen.model, num_classes=10).eval()
    side = model.preprocess.image_size[0]
    where = machine()["cpu"]
    print(f"{chosen.model}, {where}, {chosen.threads} threads, torch {versions()['torch']}, "
          f"{datetime.now(UTC).date()}")  # fmt: skip
    print(f"command: {shlex.join(['python', *sys.argv])}\n")
    print(f"| score, {chosen.images} images of {side} pixels | seconds | of the processor |")
    print("| --- | --- | --- |")
    for measure in MEASURES:
        clock, processor = seconds(model, measure, chosen.images, chosen.batch, side)
        print(f"| {measure} | {clock:.1f} | {processor:.1f} |", flush=True)
    furthest = furthest_from_a_loop(chosen.model, 8)
    print(f"\nper_sample against a loop over 8 single images, float64: {furthest:.1e}")


if __name__ == "__main__":
    main()
