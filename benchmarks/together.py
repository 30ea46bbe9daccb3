"""One pass of the backbone for many tasks, against a pass for each.

    python benchmarks/together.py                                       # ViT-Ti/16, batch 8, on the CPU
    python benchmarks/together.py --model vit_base_patch16_224 --tasks 1 2 4 8 --device cuda

Tasks are tuned by ResTuning's bypass, SynQT or the classifier alone, on random weights and images. Both ways
take turns; printed are the medians over rounds, and of the ratios within a round. With one CPU thread it is
processor time, because others may share the machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import date

import torch
from torch import Tensor, nn

from vitrim import compose, together
from vitrim.backbones.opening import open_backbone

KINDS = {"bypass": ("ResTuning()",), "queries": ("SynQT()",), "linear": ()}


def main() -> None:
    options = parse_options()
    print(f"{options.model}, batch {options.batch}, {options.device}, {options.threads} threads")
    print(f"torch {torch.__version__}, {date.today()}\n")
    print("| tasks | kind | a pass each, ms | one pass, ms | ratio |")
    print("| ---: | --- | ---: | ---: | ---: |")
    for kind, methods in KINDS.items():
        models = [composed(options, methods) for _ in range(max(options.tasks))]
        side = models[0].preprocess.image_size
        images = torch.randn(options.batch, models[0].preprocess.channels, *side, device=options.device)
        for count in options.tasks:
            each, joint = measured(options, models[:count], together(models[:count]), images)
            ratio = statistics.median(one / all_ for one, all_ in zip(joint, each, strict=True))
            medians = (f"{1000 * statistics.median(seconds):.0f}" for seconds in (each, joint))
            print(f"| {count} | {kind} | {' | '.join(medians)} | {ratio:.2f} |", flush=True)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One pass for many tasks against a pass for each.")
    parser.add_argument("--model", default="vit_tiny_patch16_224", help="timm name")
    parser.add_argument("--batch", type=int, default=8, help="images in a pass")
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2, 4, 8], help="how many tasks")
    parser.add_argument("--rounds", type=int, default=5, help="rounds after the warm-up")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def composed(options: argparse.Namespace, methods: Sequence[str]) -> nn.Module:
    """A task on the same backbone: random weights of one seed."""
    vit, _ = open_backbone(options.model, seed=0)
    return compose(vit, *methods, num_classes=10).to(options.device).eval()


@torch.no_grad()
def measured(
    options: argparse.Namespace, models: Sequence[nn.Module], joint: nn.Module, images: Tensor
) -> tuple[list[float], list[float]]:
    """Seconds of a pass for each task, and of one for all, in every round."""
    each: list[float] = []
    one: list[float] = []
    for round_number in range(options.rounds + 1):
        taken = (
            seconds(options, lambda: [model(images) for model in models]),
            seconds(options, lambda: joint(images)),
        )
        if round_number:  # the first warms up
            each.append(taken[0])
            one.append(taken[1])
    return each, one


def seconds(options: argparse.Namespace, run: Callable[[], object]) -> float:
    started = now(options)
    run()
    return now(options) - started


def now(options: argparse.Namespace) -> float:
    if options.device != "cpu":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if options.threads == 1 else time.perf_counter()


if __name__ == "__main__":
    main()
