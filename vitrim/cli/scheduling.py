"""vitrim plan --schedule: where to reduce, by operations or at the steps of a measured staircase."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitrim.cli.used_options import refuse_unused

if TYPE_CHECKING:
    import torch
    from jsonargparse import Namespace

    from vitrim.network.method import Method
    from vitrim.network.model import StagedViT
    from vitrim.planner.budget import Budget
    from vitrim.planner.schedule import Placement
    from vitrim.planner.search import Composer
    from vitrim.planner.staircase import Curve

USED = ("schedule", "model", "budget", "data", "root", "weights", "pretrained", "image_size", "measure")
MEASURING = ("batch_size", "device", "threads", "cache", "plot")
READING = "MACs: of the plain operations; lost: attention that leaves, summed over blocks"
READING_TIMES = """ms: for an image, foretold from the staircase, then measured now, in turns, of the
composition itself; plain = 1: the same two beside plain's. Where plain's error is large, the machine is
busier or idler than when the staircase was measured: compare what stands beside plain's."""
SHOWN = 5  # steps that are named


def show_schedules(chosen: Namespace, budgets: Sequence[str]) -> None:
    """Print schedules within a budget; with --measure found at the steps, with what they take."""
    from rich.console import Console

    from vitrim.data import open_data
    from vitrim.measuring.devices import pick_device
    from vitrim.planner.budget import parse_budget
    from vitrim.planner.schedule import schedules, table, timed
    from vitrim.training.budgets import calibration_batches

    budget = parse_budget(budgets)
    measures = _check(chosen, budget)
    source = open_data(chosen.data or "digits", root=chosen.root)
    compose, curve, device = _composer(chosen, len(source.classes)), None, pick_device(chosen.device)
    if measures:
        curve = _staircase(chosen, compose, device)
    batches = list(calibration_batches(compose([]), source))
    found = schedules(compose, batches, budget.share, curve, budget.milliseconds)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    images = sum(len(labels) for _, labels in batches)
    console.print(f"{chosen.model}, {budget}, {source.spec}: {images} images\n")
    if curve is None:
        console.print(f"{table(found)}\n\n{READING}")
        return
    found = timed(compose, found, curve, device)
    console.print(f"{in_words(curve)}\n\n{table(found)}\n\n{READING}\n{READING_TIMES}")
    if chosen.plot is not None:
        _draw(chosen, compose([]), curve, found)
        console.print(f"\nwrote {chosen.plot}")


def _check(chosen: Namespace, budget: Budget) -> bool:
    """Whether times are asked for; what does not fit is refused before anything is measured."""
    import torch

    from vitrim.checks import check_positive
    from vitrim.runs.answer_files import check_ending

    measures = chosen.measure or budget.milliseconds is not None
    kind = "a schedule" if measures else "a schedule without --measure"
    refuse_unused(chosen, (*USED, *(MEASURING if measures else ())), kind)
    if budget.megabytes is not None:
        raise ValueError(
            "--schedule takes --budget as a share of the plain operations such as 0.6, as milliseconds for "
            "an image such as 12ms, or both"
        )
    check_positive("plan", "batch_size", chosen.batch_size)
    if chosen.plot is not None and not check_ending(chosen.plot, ".png").parent.is_dir():
        raise FileNotFoundError(f"--plot: there is no folder to write {chosen.plot} into")
    if chosen.threads is not None:
        check_positive("plan", "threads", chosen.threads)
        torch.set_num_threads(chosen.threads)
    return measures


def _composer(chosen: Namespace, classes: int) -> Composer:
    """Makes the task's model with some methods, the same weights each time."""
    import torch

    from vitrim.settings.run_plan import Asked, compose_asked

    def composed(methods: Sequence[Method]) -> StagedViT:
        asked = Asked(
            model=chosen.model, methods=list(methods), pretrained=chosen.pretrained or None,
            weights=chosen.weights, image_size=chosen.image_size,
        )  # fmt: skip
        torch.manual_seed(0)
        return compose_asked(asked, classes).eval()

    return composed


def _staircase(chosen: Namespace, compose: Composer, device: torch.device) -> Curve:
    """The kept one of this machine and model, or a new one."""
    from vitrim.planner.kept_curves import cache_folder, curve_of

    folder = cache_folder() if chosen.cache is None else Path(chosen.cache).expanduser()
    bare = compose([]).to(device)
    return curve_of(bare, chosen.batch_size, folder, say=lambda words: sys.stderr.write(f"{words}\n"))


def in_words(curve: Curve) -> str:
    """What a block takes, with all patches and with half, and the largest steps."""
    import numpy as np

    from vitrim.planner.staircase import steep_intervals

    counts = curve.counts
    times = dict(zip(counts, (float(time) for time in curve.block(np.array(counts))), strict=True))
    half = float(curve.block(np.array([counts[-1] / 2]))[0]) / times[counts[-1]]
    whole = f"a block takes {times[counts[-1]]:.3g} ms for {curve.batch_size} x {counts[-1]} patches, "
    whole += f"{half:.2f} of that for half"
    steps = steep_intervals(list(times.items()))
    if not steps:
        return f"{whole}; no step stands out"
    largest = sorted(steps, key=lambda step: times[step[0]] - times[step[1]])[:SHOWN]
    named = [
        f"{low} to {high} (+{100 * (times[high] / times[low] - 1):.0f} %)" for low, high in sorted(largest)
    ]
    return f"{whole}; steps: {len(steps)}, the largest from {', '.join(named)} patches"


def _draw(chosen: Namespace, bare: StagedViT, curve: Curve, found: Sequence[Placement]) -> None:
    import torch

    from vitrim.planner.block_parts import block_macs
    from vitrim.planner.staircase_picture import picture
    from vitrim.writing import write_whole

    title = f"{chosen.model}, batches of {curve.batch_size}, {torch.get_num_threads()} thread(s)"
    drawn = picture(curve, block_macs(bare, curve.counts), title, found)
    write_whole(Path(chosen.plot).expanduser(), drawn)
