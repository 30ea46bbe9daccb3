"""Time and memory of one training step: selected entries against full fine-tuning, masked dense gradients and
LoRA.

    python benchmarks/selected_entries.py                                    # ViT-S/16, batch 8, CPU
    python benchmarks/selected_entries.py --model vit_base_patch16_224 --batch 32 --device cuda

Candidates take turns (A B C A B C ...) on the same images, so a busy machine slows all of them alike; the
table shows the median over rounds of each one's time relative to full fine-tuning in the same round, with the
quartiles. Memory is the peak of what a first step allocates, gradients and optimiser state included.
"""

import argparse
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim import FisherDelta, Full, LoRA, compose
from vitrim.measuring.machine import machine, versions
from vitrim.methods.selection.candidates import candidates
from vitrim.network.model import StagedViT

Step = Callable[[Tensor, Tensor], None]


def selected(name: str, per_neuron: int) -> StagedViT:
    """A model of which `per_neuron` inputs of every neuron train, anywhere."""
    plain = compose(name, num_classes=10)
    method = FisherDelta(counts=(per_neuron,) * len(candidates(plain)))
    model = compose(name, method, num_classes=10)
    for candidate in candidates(model):
        rows, columns = candidate.layer.weight.shape
        index = torch.rand(rows, columns).topk(per_neuron, dim=1).indices.sort(1).values
        candidate.layer.entries.choose(index, share=0.0)
    return model


def with_adam(model: StagedViT, device: str) -> tuple[Step, torch.optim.Optimizer]:
    """One training step of whatever trains in the model."""
    model.to(device).train()
    optimizer = torch.optim.Adam(model.trained().values(), lr=1e-5)

    def step(images: Tensor, labels: Tensor) -> None:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)  # gradients are kept between steps, so their memory shows

    return step, optimizer


def masked(name: str, per_neuron: int, device: str) -> tuple[Step, torch.optim.Optimizer]:
    """Gradients and Adam for every weight, then masked: how published code trains selected weights."""
    model = compose(name, Full(), num_classes=10).to(device).train()
    optimizer = torch.optim.Adam(model.trained().values(), lr=1e-5)
    masks = {}
    for candidate in candidates(model):
        chosen = torch.rand_like(candidate.layer.weight).topk(per_neuron, dim=1).indices
        mask = torch.zeros_like(candidate.layer.weight, dtype=torch.bool).scatter_(1, chosen, True)
        masks[candidate.layer.weight] = mask

    def step(images: Tensor, labels: Tensor) -> None:
        F.cross_entropy(model(images), labels).backward()
        for weight, mask in masks.items():
            weight.grad.mul_(mask)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    return step, optimizer


def peak_mib(step: Step, images: Tensor, labels: Tensor) -> float:
    """The most a step holds at once above what was there before it."""
    if images.is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(images, labels)
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as seen:
        step(images, labels)
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def seconds(step: Step, images: Tensor, labels: Tensor) -> float:
    """One step. On the CPU, time of this process, which other processes' load distorts less."""
    if images.is_cuda:
        torch.cuda.synchronize()
    clock = time.perf_counter if images.is_cuda else time.process_time
    start = clock()
    step(images, labels)
    if images.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def candidates_of(name: str, device: str) -> dict[str, Callable[[], tuple[Step, torch.optim.Optimizer]]]:
    rows = {
        "full fine-tuning": lambda: with_adam(compose(name, Full(), num_classes=10), device),
        "masked dense gradients, 1 per neuron": lambda: masked(name, 1, device),
        "LoRA rank 8": lambda: with_adam(compose(name, LoRA(rank=8), num_classes=10), device),
    }
    for k in (1, 4, 8):
        rows[f"selected entries, {k} per neuron"] = lambda k=k: with_adam(selected(name, k), device)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--batch", type=int, default=8, help="images per step while timing")
    parser.add_argument("--memory-batch", type=int, default=16, help="images per step while measuring memory")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    made = {label: build() for label, build in candidates_of(chosen.model, chosen.device).items()}
    many = torch.randn(max(chosen.batch, chosen.memory_batch), 3, 224, 224, device=chosen.device)
    labels = torch.arange(len(many), device=chosen.device) % 10
    peaks = {}
    for label, (step, _) in made.items():
        peaks[label] = peak_mib(step, many[: chosen.memory_batch], labels[: chosen.memory_batch])
    times: dict[str, list[float]] = {label: [] for label in made}
    for _ in range(chosen.rounds):
        for label, (step, _) in made.items():
            times[label].append(seconds(step, many[: chosen.batch], labels[: chosen.batch]))
    report(made, peaks, times, chosen)


def report(
    made: dict[str, tuple[Step, torch.optim.Optimizer]],
    peaks: dict[str, float],
    times: dict[str, list[float]],
    chosen: argparse.Namespace,
) -> None:
    where, found = machine(), versions()
    print(f"{chosen.model}, {where.get('gpu', where['cpu']) if chosen.device != 'cpu' else where['cpu']}, "
          f"{chosen.threads} threads, torch {found['torch']}, {datetime.now(UTC).date()}")  # fmt: skip
    print(f"command: {shlex.join(['python', *sys.argv])}\n")
    print(f"| one training step | time, batch {chosen.batch} (quartiles) "
          f"| peak MiB, batch {chosen.memory_batch} | trained | state and gradients / trained |")  # fmt: skip
    print("| --- | --- | --- | --- | --- |")
    full = times["full fine-tuning"]
    for label, (_, optimizer) in made.items():
        ratios = [mine / theirs for mine, theirs in zip(times[label], full, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        trained = sum(weight.numel() for weight in weights)
        held = sum(weight.grad.numel() for weight in weights if weight.grad is not None)
        held += sum(v.numel() for state in optimizer.state.values() for v in state.values() if v.ndim)
        print(f"| {label} | {middle:.2f} ({low:.2f} to {high:.2f}) | {peaks[label]:,.0f} "
              f"| {trained:,} | {held / trained:.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()
