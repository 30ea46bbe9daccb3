"""Memory and time of one training step, for tuners alone and with token reducers.

    python benchmarks/training_step.py                                  # ViT-S/16, batch 16, on the CPU
    python benchmarks/training_step.py --model vit_base_patch16_224 --batch 64 --device cuda --bf16

Three figures for every composition, on random images and weights:

    time    of a step (forward, backward, AdamW) as a ratio to the first row's step in the same round. A
            round runs all compositions one after the other; printed are the median over rounds and the
            quartiles. With one CPU thread it is processor time, because others may share the machine.
    memory  the peak above what stood before the first step, gradients and AdamW's state included. On a
            CPU (Linux) of a process of its own that gives freed memory back at once, on a GPU of the
            allocator.
    kept    what autograd keeps between forward and backward, every storage once, weights and images not
            counted.

The first row stands twice: how far its second ratio is from 1 is the noise. "peft" rows are the PEFT
library's LoRA on timm's `qkv` layers with the head trained, under the same loss and optimiser; "LoRA 8 on
qkv" puts the same A and B on the same layers, "LoRA 8" is the usual one on queries and values. "FisherDelta
C" trains C inputs of every neuron of the blocks, drawn at random. Without peft installed its rows are left
out.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from noted import note, noted
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim import FisherDelta, compose
from vitrim.backbones import recompute
from vitrim.methods.selection.candidates import candidates

CLASSES = 100
TUNERS = {
    "full": ("Full()",),
    "linear": (),
    "LoRA 8": ("LoRA(rank=8)",),
    "LoRA 8 on qkv": ("LoRA(rank=8, roles=('query', 'key', 'value'), shared=True)",),
    "AdaptFormer 8": ("Adapter(width=8)",),
    "dense adapter 8": ("DenseAdapter(width=8)",),
}
REDUCERS = {"": (), " + EViT 0.7": ("EViT(keep=0.7)",), " + Bipartite at 6": ("Bipartite(at=(6,))",)}
COMPOSITIONS = {
    tuner + reducer: (*tuning, *reducing)
    for reducer, reducing in REDUCERS.items()
    for tuner, tuning in TUNERS.items()
}
BESIDE = {  # what a head reads beside a frozen backbone, and merging that learns
    "SynQT 4": ("SynQT()",),
    "SynQT 4 + EViT 0.7": ("SynQT()", "EViT(keep=0.7)"),
    "ResTuning bypass": ("ResTuning()",),
    "LoRA 8 + PYRA high": ("LoRA(rank=8)", "PYRA(schedule='high')"),
}
COMPOSITIONS |= BESIDE
PEFT = {"peft LoRA 8 on qkv": 8} if find_spec("peft") else {}
ENTRIES = {"FisherDelta 1": 1, "FisherDelta 4": 4}
AGAIN = " again"
MIB = 2**20

Built = tuple[nn.Module, Tensor, Callable[[], None]]


def main() -> None:
    options = parse_options()
    if options.child is not None:
        print(json.dumps(peak_of_first_steps(options, options.child)))
        return
    asked = options.only.split(",")
    rows = [*COMPOSITIONS, *PEFT, *ENTRIES]
    names = [name for name in rows if options.only in name] if len(asked) == 1 else asked
    names.append(names[0] + AGAIN)
    found = Found(options.out)
    seconds = interleaved(options, names, found)
    memory, kept = {}, {}
    for name in names[:-1]:
        memory[name] = found.bytes("memory", name, partial(peak_in_own_process, options, name))
        kept[name] = found.bytes("kept", name, partial(kept_in_a_step, options, name))
    print_table(options, names, memory, kept, seconds)


class Found:
    """What was measured so far: in a file where one is given, so that the same command goes on."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines = noted(path)

    def note(self, **line: Any) -> None:
        self.lines.append(line)
        if self.path is not None:
            note(self.path, line)

    def bytes(self, what: str, name: str, measure: Callable[[], int]) -> int:
        known = [line[what] for line in self.lines if line.get("name") == name and what in line]
        if not known:
            self.note(name=name, **{what: measure()})
            known = [self.lines[-1][what]]
        return int(known[0])

    def rounds(self) -> list[dict[str, float]]:
        return [line["round"] for line in self.lines if "round" in line]


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Memory and time of one training step.")
    parser.add_argument("--model", default="vit_small_patch16_224", help="timm name")
    parser.add_argument("--batch", type=int, default=16, help="images in a step")
    parser.add_argument("--rounds", type=int, default=5, help="rounds after the warm-up")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument(
        "--only",
        default="",
        help="compositions whose name contains this, or a list of whole names with commas between",
    )
    parser.add_argument("--out", type=Path, help="file to note every figure in; a stopped run goes on")
    parser.add_argument("--child", help=argparse.SUPPRESS)  # measure the memory of this composition only
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def build(options: argparse.Namespace, name: str) -> Built:
    """A composition, its images, and a function that makes one training step."""
    torch.manual_seed(0)
    name = name.removesuffix(AGAIN)
    if name in PEFT:
        model, size = with_peft(options.model, PEFT[name])
    else:
        model = (
            with_entries(options.model, ENTRIES[name])
            if name in ENTRIES
            else compose(options.model, *COMPOSITIONS[name], num_classes=CLASSES)
        )
        size = model.input_shape()
    model = model.to(options.device).train()
    images = torch.randn(options.batch, *size).to(options.device)
    labels = torch.arange(options.batch, device=options.device) % CLASSES
    optimizer = torch.optim.AdamW(trained(model), lr=1e-3)
    forward = getattr(model, "forward_with_penalty", lambda images: (model(images), None))

    def step() -> None:
        with torch.autocast(options.device, torch.bfloat16, enabled=options.bf16):
            logits, penalty = forward(images)
        loss = F.cross_entropy(logits.float(), labels)
        (loss if penalty is None else loss + penalty).backward()
        optimizer.step()
        optimizer.zero_grad()

    return model, images, step


def with_peft(name: str, rank: int) -> tuple[nn.Module, tuple[int, ...]]:
    """timm's model under PEFT's LoRA of scale 1, its head trained; and the shape of an image."""
    import timm
    from peft import LoraConfig, get_peft_model

    vit = timm.create_model(name, num_classes=CLASSES)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["qkv"], modules_to_save=["head"])
    return get_peft_model(vit, config), vit.pretrained_cfg["input_size"]  # type: ignore[arg-type]


def with_entries(name: str, per_neuron: int) -> nn.Module:
    """A model of which `per_neuron` inputs of every neuron train, anywhere."""
    count = len(candidates(compose(name, num_classes=CLASSES)))
    model = compose(name, FisherDelta(counts=(per_neuron,) * count), num_classes=CLASSES)
    for candidate in candidates(model):
        index = torch.rand(candidate.layer.weight.shape).topk(per_neuron, dim=1).indices.sort(1).values
        candidate.layer.entries.choose(index, share=0.0)
    return model


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def kept_in_a_step(options: argparse.Namespace, name: str) -> int:
    """What autograd keeps in one step beside weights and images, in bytes."""
    model, images, step = build(options, name)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers(), images)}
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    own_check = recompute.something_else_keeps
    recompute.something_else_keeps = lambda: False  # these hooks only look
    try:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            step()
    finally:
        recompute.something_else_keeps = own_check
    return sum(storages.values())


def peak_in_own_process(options: argparse.Namespace, name: str) -> int:
    """Peak memory of the first steps above the start, in bytes, measured by a child process."""
    arguments = [sys.executable, __file__, "--child", name, "--model", options.model]
    arguments += [
        "--batch",
        str(options.batch),
        "--threads",
        str(options.threads),
        "--device",
        options.device,
    ]
    arguments += ["--bf16"] * options.bf16
    # glibc would keep freed blocks below 32 MiB for later and so show what it holds instead of what is in use
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18)}
    done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return int(json.loads(done.stdout))


def peak_of_first_steps(options: argparse.Namespace, name: str) -> int:
    *_, step = build(options, name)
    warm_up(options.device)
    if options.device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        step()
        step()
        return torch.cuda.max_memory_allocated() - start
    start = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    step()
    step()
    return resident("VmHWM") - start


def warm_up(device: str) -> None:
    """One step of a tiny model: what PyTorch loads for it is not the composition's memory."""
    layer = nn.Linear(2, 2).to(device)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.zeros(1, 2, device=device)).sum().backward()
    optimizer.step()


def resident(which: str) -> int:
    """A figure of this process from /proc, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))


def interleaved(options: argparse.Namespace, names: Sequence[str], found: Found) -> dict[str, list[float]]:
    """Seconds of a step of every composition in every round."""
    left = options.rounds - len(found.rounds())
    steps = {name: build(options, name)[2] for name in names} if left > 0 else {}
    for round_number in range(left + 1):
        row = {}
        for name, step in steps.items():
            started = now(options)
            step()
            row[name] = now(options) - started
        if round_number and row:  # the first round warms up
            found.note(round=row)
    return {name: [row[name] for row in found.rounds()] for name in names}


def now(options: argparse.Namespace) -> float:
    if options.device != "cpu":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if options.threads == 1 else time.perf_counter()


def print_table(
    options: argparse.Namespace,
    names: Sequence[str],
    memory: dict[str, int],
    kept: dict[str, int],
    seconds: dict[str, list[float]],
) -> None:
    where = torch.cuda.get_device_name() if options.device != "cpu" else processor()
    print(f"{options.model}, batch {options.batch}, {'bfloat16' if options.bf16 else 'float32'}")
    print(f"{where}, {options.threads} threads, torch {torch.__version__}, {date.today()}")
    print("python " + " ".join(sys.argv) + "\n")
    print("| composition | trained | ms | time | quartiles | memory MiB | kept MiB |")
    print("| --- | ---: | ---: | ---: | --- | ---: | ---: |")
    for name in names:
        count = sum(parameter.numel() for parameter in trained(build(options, name)[0]))
        ratios = [own / first for own, first in zip(seconds[name], seconds[names[0]], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"| {name} | {count:,} | {1000 * statistics.median(seconds[name]):.0f} | {middle:.2f} "
            f"| {low:.2f} to {high:.2f} | {of(memory, name) / MIB:,.0f} | {of(kept, name) / MIB:,.0f} |"
        )


def of(figures: dict[str, int], name: str) -> int:
    return figures[name.removesuffix(AGAIN)]


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
