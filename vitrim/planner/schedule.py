"""Where to reduce, and how much: blocks and shares found on images, greedily, beside published placements.

At every step, of all blocks that may keep less, the one is taken that loses the least attention of the
class token (or whatever ranks tokens) for the operations it saves, until the budget is met; then blocks are
shifted, added or left out while that loses less. They stand at least two apart and not before the fourth
(TR-PTS, section 3.3). With a staircase it is the attention lost for the milliseconds saved (at_steps.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vitrim.checks import check_share
from vitrim.measuring.bench import turns_of
from vitrim.measuring.costs import executed_macs
from vitrim.methods.budgets.chosen import shares
from vitrim.methods.reducers.evit import EViT
from vitrim.methods.selection.placement import PLACEMENTS, choose_blocks
from vitrim.methods.selection.shares import block_shares
from vitrim.planner.at_steps import AtSteps
from vitrim.planner.search import APART, FIRST, Composer, Fits, Search, scores
from vitrim.planner.staircase import ROUNDS, Curve, clock_of

GREEDY, STEPS = "greedy", "at steps"


@dataclass(frozen=True)
class Placement:
    """One way to come down to the budget.

    Attributes:
        name: "greedy" (by operations), "at steps" (by time), or a rule of TR-PTS.
        method: the composition that does it.
        share: of the plain backbone's multiply-accumulates, as executed.
        lost: attention that leaves with the tokens, summed over the blocks, measured with the blocks before
            as they are; mean of the images.
        milliseconds: for an image, foretold by a staircase; None without one.
        measured: the same of the composition itself; None where it was not measured.
    """

    name: str
    method: EViT | None
    share: float
    lost: float
    milliseconds: float | None = None
    measured: float | None = None


def schedules(
    compose: Composer,
    batches: Sequence[tuple[Tensor, Tensor]],
    budget: float | None,
    curve: Curve | None = None,
    milliseconds: float | None = None,
) -> list[Placement]:
    """Schedules that meet the budget: found at the steps of a staircase, if there is one, by operations, if
    those are limited, and as many blocks by the rules of TR-PTS with one share for all.

    Args:
        compose: makes the task's model with some methods, the same weights each time.
        batches: images and labels to measure on.
        budget: share of the plain backbone's multiply-accumulates to come down to.
        curve: the staircase of this backbone on this machine.
        milliseconds: for an image, foretold by the curve, to come down to.
    """
    if budget is not None:
        check_share("plan --schedule", "budget", budget)
    plain, search = executed_macs(compose(()))[0], Search(compose, batches)
    fits = _within(search, None if budget is None else budget * plain, curve, milliseconds)
    methods: dict[str, EViT] = {}
    if curve is not None:
        methods[STEPS] = AtSteps(search, curve, fits).best()
    if budget is not None:
        by_operations = search.best(budget * plain)
        if curve is None or fits(_tokens(search, [by_operations]))[0]:  # the time may be limited too
            methods[GREEDY] = by_operations
    first = next(iter(methods.values()))
    weights = block_shares(compose(()), batches, first)
    for rule in PLACEMENTS:
        at = choose_blocks(weights, rule, first.count, FIRST, APART)
        uniform = search.uniform(at, fits)
        if uniform is not None:
            methods[rule] = uniform
    found = [_measured(name, method, compose, batches, plain) for name, method in methods.items()]
    if curve is None:
        return found
    foretold = curve.milliseconds(_tokens(search, list(methods.values())))
    return [replace(each, milliseconds=float(time)) for each, time in zip(found, foretold, strict=True)]


def _within(search: Search, macs: float | None, curve: Curve | None, milliseconds: float | None) -> Fits:
    """Which ways meet the whole budget."""
    if macs is None and (milliseconds is None or curve is None):
        raise ValueError("a schedule needs a budget: a share of the operations, or milliseconds and a curve")

    def fits(tokens: np.ndarray) -> np.ndarray:
        allowed = np.ones(len(tokens), dtype=bool)
        if macs is not None:
            allowed &= search.costs(tokens) <= macs
        if curve is not None and milliseconds is not None:
            allowed &= curve.milliseconds(tokens) <= milliseconds
        return allowed

    return fits


def _tokens(search: Search, methods: Sequence[EViT]) -> np.ndarray:
    return search.tokens(
        [dict(zip(cast("tuple[int, ...]", each.at), each.shares(), strict=True)) for each in methods]
    )


@torch.inference_mode()
def timed(
    compose: Composer, found: Sequence[Placement], curve: Curve, device: torch.device
) -> list[Placement]:
    """The backbone without methods, then the placements, with the time that each takes of an image, measured
    in turns on batches as the curve's."""
    bare = compose(())
    whole = np.full((1, bare.depth), bare.patch_count)
    every = [Placement("plain", None, 1.0, 0.0, float(curve.milliseconds(whole)[0])), *found]
    shape, luck = (curve.batch_size, *bare.input_shape()), torch.Generator().manual_seed(0)
    images = torch.randn(shape, generator=luck).to(device)
    models = [compose(() if each.method is None else (each.method,)).to(device) for each in every]
    calls = {place: (lambda model=model: model(images)) for place, model in enumerate(models)}
    turns, clock = turns_of(calls, ROUNDS, device), clock_of(device)
    medians = [float(np.median([turn[clock] for turn in turns[place]])) for place in calls]
    return [
        replace(each, measured=1000 * seconds / curve.batch_size)
        for each, seconds in zip(every, medians, strict=True)
    ]


def _measured(
    name: str, method: EViT, compose: Composer, batches: Sequence[tuple[Tensor, Tensor]], plain: int
) -> Placement:
    """A schedule as it is: counted, and run on the images."""
    model, lost = compose((method,)), 0.0
    for _, step, ranked in scores(model, batches):
        held = shares(ranked).topk(step.kept(ranked.shape[1]), dim=1).values.sum(1)
        lost += 1 - held.mean().item()
    return Placement(name, method, executed_macs(model)[0] / plain, lost)


def table(found: Sequence[Placement]) -> str:
    """One line for each placement, as text."""
    times = [] if found[0].milliseconds is None else ["ms foretold", "measured", "error", "plain = 1"]
    rows = [["placement", "MACs", "lost", *times, "composition"]]
    for each in found:
        text = "-" if each.method is None else repr(each.method)
        rows.append([each.name, f"{each.share:.3f}", f"{each.lost:.4f}", *_times(each, found[0]), text])
    missing = [rule for rule in PLACEMENTS if rule not in {each.name for each in found}]
    late = "its blocks come so late that no share comes down to that"
    rows += [[rule, "-", "-", *["-"] * len(times), late] for rule in missing]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    lines = []
    for row in rows:
        figures = [f"{cell:>{width}}" for cell, width in zip(row[1:-1], widths[1:], strict=True)]
        lines.append("  ".join([f"{row[0]:<{widths[0]}}", *figures, row[-1]]))
    return "\n".join(lines)


def _times(each: Placement, plain: Placement) -> list[str]:
    """Milliseconds foretold and measured, by how much the former are off, and both beside the plain ones."""
    if each.milliseconds is None:
        return []
    if each.measured is None or plain.measured is None or plain.milliseconds is None:
        return [f"{each.milliseconds:.2f}", "-", "-", "-"]
    error = 100 * (each.milliseconds / each.measured - 1)
    ratios = f"{each.milliseconds / plain.milliseconds:.3f}, {each.measured / plain.measured:.3f}"
    return [f"{each.milliseconds:.2f}", f"{each.measured:.2f}", f"{error:+.1f} %", ratios]
