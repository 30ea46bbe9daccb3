"""The time and memory columns of a table, measured on this machine.

All rows take turns in one run and are compared with the plain backbone in the same round, so that ratios
hold on a busy machine. Weights are random: time and memory do not depend on them, but for what learned
reducers and dispatchers let pass.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import date

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitrim.compose import compose, merge
from vitrim.measuring.bench import compare
from vitrim.measuring.devices import pick_device
from vitrim.network.model import StagedViT
from vitrim.papers.reading import VIT_B, Reading
from vitrim.papers.verdicts import PAPERS, find_papers, find_tables
from vitrim.papers.writing import grid

USUAL = {"sparse-tuning": "II", "fpet": "1", "tr-pts": "2"}  # tables of main results
PLAIN = "plain backbone"
CLASSES = 100
HEADER = ("row", "inference", "quartiles", "images/s", "training step", "training memory", "MiB")


def measure_table(
    paper: str, table: str | None, model: str, batch: int, rounds: int, device: str | None
) -> str:
    """Measure the rows of a table, as Markdown."""
    if batch < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch}")
    (chosen,) = find_tables(find_papers(paper)[0], table or USUAL[paper])
    place = pick_device(device)
    rows = {row.name: row.reading for row in chosen.rows if row.reading and measurable(row.reading)}
    if not rows:
        raise ValueError(f"Table {chosen.name} has no row on ViT-B that can be composed without data")
    left_out = [row.name for row in chosen.rows if row.name not in rows]
    built = {name: build(reading, model, place) for name, reading in rows.items()}
    images = random_images(next(iter(built.values())), batch).to(place)
    speeds = {speed.name: speed for speed in compare(inference(built, rows, model, place), images, rounds)}
    steps = {PLAIN: build(Reading("Full()"), model, place), **built}
    memory = {name: training_memory(one, images) for name, one in steps.items()}
    seconds = step_ratios({name: step_of(one, images) for name, one in steps.items()}, rounds)
    lines = []
    for name, speed in speeds.items():
        low, high = speed.quartiles
        share, mebibytes = memory[name] / memory[PLAIN], memory[name] / 2**20
        lines.append((name, f"{speed.ratio:.2f}", f"{low:.2f} - {high:.2f}",
                      f"{speed.images_per_second:,.0f}", f"{seconds[name]:.2f}", f"{share:.2f}",
                      f"{mebibytes:,.0f}"))  # fmt: skip
    title = f"## Measured: {PAPERS[paper].name}, Table {chosen.name}"
    notes = [title, "", *description(model, batch, rounds, place), "", *grid(HEADER, lines, "lrlrrrr")]
    if left_out:
        notes += ["", f"Not measured (other backbones, or chosen by data): {', '.join(left_out)}."]
    return "\n".join([*notes, ""])


def measurable(reading: Reading) -> bool:
    """Whether a row is one composition on ViT-B that needs no training images."""
    return (
        reading.backbone == VIT_B
        and isinstance(reading.methods, str)
        and "FisherDelta" not in reading.methods
    )


def build(reading: Reading, model: str, place: torch.device) -> StagedViT:
    """A row's composition on the backbone to measure on, always from the same random weights."""
    torch.manual_seed(0)
    methods = [text for text in str(reading.methods).split("; ") if text]
    return compose(model, *methods, num_classes=CLASSES).to(place)


def inference(
    built: dict[str, StagedViT], rows: dict[str, Reading], model: str, place: torch.device
) -> dict[str, nn.Module]:
    """What runs after training: folded where the paper folds."""
    plain = build(Reading(), model, place).vit.eval()
    ready = {name: (merge(one) if rows[name].folded else one).eval() for name, one in built.items()}
    return {PLAIN: plain, **ready}


def random_images(model: StagedViT, batch: int) -> Tensor:
    shape = (batch, model.preprocess.channels, *model.preprocess.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def step_of(model: StagedViT, images: Tensor) -> Callable[[], None]:
    """One step of training: forward, backward, AdamW."""
    model.train()
    labels = torch.arange(len(images), device=images.device) % CLASSES
    optimizer = torch.optim.AdamW(model.trained().values(), lr=1e-4)

    def step() -> None:
        logits, penalty = model.forward_with_penalty(images)
        loss = functional.cross_entropy(logits.float(), labels)
        (loss if penalty is None else loss + penalty).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def step_ratios(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Time of a step over that of full fine-tuning in the same round, the median over rounds."""
    ratios: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        first = None
        for name, step in steps.items():
            started = now()
            step()
            taken = now() - started
            first = first or taken
            if number:  # the first round warms up
                ratios[name].append(taken / first)
    return {name: statistics.median(values) for name, values in ratios.items()}


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def training_memory(model: StagedViT, images: Tensor) -> int:
    """Bytes: on a GPU the peak of a step above what stood before, on a CPU what is kept for the backward
    pass, gradients and AdamW's state, every storage once."""
    step = step_of(model, images)
    if images.is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    own = {weight.untyped_storage().data_ptr() for weight in (*model.parameters(), *model.buffers(), images)}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    states = 3 * sum(weight.numel() * weight.element_size() for weight in model.trained().values())
    return sum(kept.values()) + states


def description(model: str, batch: int, rounds: int, place: torch.device) -> list[str]:
    """Where and how it was measured."""
    from vitrim.measuring.machine import machine

    words = machine()
    where = words["gpu"] if place.type == "cuda" else f"{words['cpu']}, {words['threads']} threads"
    memory = (
        "the peak of a step above the weights"
        if place.type == "cuda"
        else "what is kept for the backward pass, gradients and AdamW's state"
    )
    return [
        f"{model}, {batch} images at a time, float32, random weights, {rounds} rounds; {where}; "
        f"torch {torch.__version__}; {date.today()}.",
        "Inference and its quartiles: time over the plain backbone's in the same round, folded where the "
        "paper folds. Training step and memory: over full fine-tuning of the plain backbone; memory is "
        f"{memory}.",
    ]
