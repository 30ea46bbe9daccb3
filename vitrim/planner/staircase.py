"""What a block takes by how many patch tokens it has: no line, a staircase. Measured part by part, in turns.

Kernels work in tiles, so that a token more can cost nothing, or a whole tile more. Two halves of a block are
measured at many counts, one after the other in every round; between two counts that lie further apart in
time than in tokens, the step is looked for until it stands between neighbours.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from vitrim.measuring.bench import turns_of
from vitrim.network.model import StagedViT
from vitrim.planner.block_parts import Parts, Point

PARTS = ("attention", "mlp", "reducing", "last", "outside")
COARSE = 48  # intervals between no patch and all of them that are measured at first
FEW = 12  # where what hardly bends is measured
ROUNDS = 7
STEEP = 0.02  # of the time at all patches: by so much an interval that holds a step exceeds the usual one
FINER = 6  # how often steps are looked for between counts that were measured
TREAD = 0.005  # of a block's time at all patches: what a count must save beside all larger ones to count

Timer = Callable[[Mapping[Point, Callable[[], object]]], Mapping[Point, float]]
Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Curve:
    """Milliseconds of a batch, by part and by patch tokens.

    Attributes:
        parts: of each of `PARTS` the counts, ascending, and their milliseconds. "attention" is a block up to
            where it could reduce, by the tokens that enter; "mlp" the rest of it, by those that leave;
            "reducing" is like "attention" where EViT does reduce; "last" the whole last block, which computes
            only what the head reads; "outside" embedding and head, at one count.
        batch_size: images of such a batch.
    """

    parts: Mapping[str, Points]
    batch_size: int

    @property
    def counts(self) -> list[int]:
        """Where both halves of a block were measured."""
        first, second = ({count for count, _ in self.parts[part]} for part in ("attention", "mlp"))
        return sorted(first & second)

    @property
    def patch_count(self) -> int:
        """N0, all patches of an image."""
        return self.parts["attention"][-1][0]

    def at(self, part: str, counts: np.ndarray) -> np.ndarray:
        """Milliseconds of one part; between measured counts, in a straight line."""
        known, milliseconds = zip(*self.parts[part], strict=True)
        return np.interp(counts, known, milliseconds)

    def block(self, counts: np.ndarray) -> np.ndarray:
        """Of a block that reduces nothing."""
        return self.at("attention", counts) + self.at("mlp", counts)

    def choosing(self, counts: np.ndarray) -> np.ndarray:
        """What a reduction adds to the half of a block before it: known at a few counts, in lines between."""
        known, with_it = (np.array(values) for values in zip(*self.parts["reducing"], strict=True))
        return np.interp(counts, known, with_it - self.at("attention", known))

    def milliseconds(self, tokens: np.ndarray) -> np.ndarray:
        """For an image, of schedules [ways, blocks] of the patch tokens that leave every block: [ways]"""
        entering = np.concatenate([np.full((len(tokens), 1), self.patch_count), tokens[:, :-1]], axis=1)
        blocks = self.at("attention", entering[:, :-1]) + self.at("mlp", tokens[:, :-1])
        blocks = blocks + (tokens[:, :-1] < entering[:, :-1]) * self.choosing(entering[:, :-1])
        rest = self.at("last", entering[:, -1]) + self.at("outside", np.zeros(len(tokens)))
        return (blocks.sum(1) + rest) / self.batch_size

    def treads(self) -> list[int]:
        """The measured counts worth having, descending: every larger one takes longer. Of a staircase, the
        outer edges."""
        counts = np.array(self.counts[::-1])
        milliseconds = self.block(counts)
        found, least = list[int](), np.inf
        for count, time in zip(counts, milliseconds, strict=True):
            if time <= least - TREAD * milliseconds[0] or not found:
                found.append(int(count))
            least = min(least, time)
        return found

    def with_slopes(self) -> list[int]:
        """The same with all counts between two neighbours that no step lies between, where one token less
        saves its share."""
        measured, treads = self.counts, set(self.treads())
        steep = set(
            steep_intervals(list(zip(measured, self.block(np.array(measured)).tolist(), strict=True)))
        )
        for low, high in pairwise(measured):
            if {low, high} <= treads and (low, high) not in steep:
                treads |= set(range(low, high))
        return sorted(treads, reverse=True)


@torch.inference_mode()
def measure(model: StagedViT, batch_size: int, timer: Timer | None = None) -> Curve:
    """The staircase of a model without methods, on the device it is on.

    Args:
        timer: gives the milliseconds of calls by name; not given, `in_turns`.
    """
    like = next(model.vit.parameters())
    shape, luck = (batch_size, *model.input_shape()), torch.Generator().manual_seed(0)
    images = torch.randn(shape, generator=luck).to(like.device, like.dtype)
    calls, timer = Parts(model, images), timer or partial(in_turns, device=images.device)
    whole = model.patch_count
    coarse = _evenly(whole, max(1, whole // COARSE))
    wanted: list[Point] = [(part, count) for part in ("attention", "mlp") for count in coarse]
    few = coarse[::-1][:: max(1, len(coarse) // FEW)]
    wanted += [(part, count) for part in ("reducing", "last") for count in few if count > 1]
    wanted.append(("outside", 0))
    found = dict(timer({point: calls(point) for point in wanted}))
    for part in ("attention", "mlp"):
        _find_steps(part, found, calls, timer)
    parts = {
        name: tuple(sorted((count, float(time)) for (part, count), time in found.items() if part == name))
        for name in PARTS
    }
    return Curve(parts, batch_size)


def _evenly(whole: int, step: int) -> list[int]:
    return sorted({1, *range(whole, 0, -step)})


def _find_steps(
    part: str, found: dict[Point, float], calls: Callable[[Point], Callable[[], object]], timer: Timer
) -> None:
    """Measure between counts that a step lies between, until it lies between neighbours."""
    for _ in range(FINER):
        steep = steep_intervals([(count, time) for (name, count), time in found.items() if name == part])
        middles = {(low + high) // 2: (low, high) for low, high in steep if high - low > 1}
        if not middles:
            return
        ends = {count for pair in middles.values() for count in pair}
        again = timer({(part, count): calls((part, count)) for count in sorted({*middles, *ends})})
        for middle, (low, high) in middles.items():  # the machine may be faster or slower than before
            before, now = (sum(times[part, end] for end in (low, high)) for times in (found, again))
            found[part, middle] = again[part, middle] * before / now


def steep_intervals(points: Sequence[tuple[int, float]]) -> list[tuple[int, int]]:
    """Neighbouring counts between which there is a step: far more time than the usual slope makes of the
    tokens between them."""
    counts, times = (np.array(values, dtype=float) for values in zip(*sorted(points), strict=True))
    widths, rises = np.diff(counts), np.diff(times)
    beyond = rises - np.median(rises / widths) * widths
    noise = float(np.median(np.abs(beyond)))
    steep = np.flatnonzero(beyond > max(STEEP * times[-1], 4 * noise))
    return [(int(counts[place]), int(counts[place + 1])) for place in steep]


def in_turns(calls: Mapping[Point, Callable[[], object]], device: torch.device) -> dict[Point, float]:
    """Milliseconds of every call, medians over rounds: of each round, its share of the round's time, so that
    a round in which the machine was busy raises none of them above the others."""
    turns, clock = turns_of(calls, ROUNDS, device), clock_of(device)
    rounds = [sum(turn[place][clock] for turn in turns.values()) for place in range(ROUNDS)]
    usual = 1000 * statistics.median(rounds)
    return {
        point: usual * statistics.median(turn[clock] / whole for turn, whole in zip(own, rounds, strict=True))
        for point, own in turns.items()
    }


def clock_of(device: torch.device) -> int:
    """Which time of a `Turn` to take: the processor's where one thread does the work, as other work on the
    machine is not in it."""
    return int(device.type == "cpu" and torch.get_num_threads() == 1)
