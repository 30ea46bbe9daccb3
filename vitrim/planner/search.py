"""Schedules found by the operations they save: greedily, then by shifting, adding and leaving out blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from torch import Tensor

from vitrim.measuring.costs_on_images import learned_costs
from vitrim.methods.budgets.calibrating import entering_scores, some_images
from vitrim.methods.budgets.chosen import shares
from vitrim.methods.reducers.evit import EViT
from vitrim.methods.reducers.keeping import KeepAttended
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.network.placing import placed

FIRST, APART, FEWEST, STEP = 3, 2, 0.1, 0.05  # of the shares a block may keep

Composer = Callable[[Sequence[Method]], StagedViT]
Fits = Callable[[np.ndarray], np.ndarray]  # which of some ways [ways, blocks] to leave patches are allowed
Left = TypeVar("Left", dict[int, float], dict[int, int])


class Search:
    """What a schedule would lose and cost, without running it."""

    def __init__(self, compose: Composer, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        bare = compose(())
        self.model, self.blocks = bare, range(FIRST, bare.depth - 1)
        if not self.blocks:
            raise ValueError(f"a schedule begins at block {FIRST}, but the backbone has {bare.depth} blocks")
        self.score = EViT.example(bare).score
        every = EViT(keep=1.0, at=tuple(self.blocks), score=self.score)
        steps = replace(every, budget="mass", levels=(1.0,) * every.count)
        self.curves = mass_curves(compose((every,)), batches)
        learned = learned_costs(compose((steps,)), tuple(self.blocks))
        if learned is None:
            raise ValueError("this backbone's operations are no polynomial of its tokens; use vitrim plan")
        self.costs = learned

    def best(self, most: float) -> EViT:
        """The schedule that costs at most so many multiply-accumulates: greedy over all blocks, then with one
        block shifted, added or left out for as long as that loses less."""
        kept = self.greedy(most, tuple(self.blocks))
        if kept is None:
            raise ValueError(
                f"no schedule comes down to that: keeping {FEWEST:.0%} wherever it may reduce, the model "
                f"still takes more than {most / 1e9:.3f} GMACs; ask for a larger budget"
            )
        kept = improve(kept, lambda at: self.greedy(most, at), self._lost, self.blocks)
        at = tuple(sorted(kept))
        return EViT(keep=tuple(kept[block] for block in at), at=at, score=self.score)

    def greedy(self, most: float, allowed: Sequence[int]) -> dict[int, float] | None:
        """By block, the shares kept, taking at every step the block that loses least for what it saves."""
        kept: dict[int, float] = {}
        lost, macs = self._lost(kept), self._macs([kept])[0]
        while macs > most:
            ways = [{**kept, block: share} for block, share in self._next(kept, allowed)]
            if not ways:
                return None
            saved = [macs - other for other in self._macs(ways)]
            prices = [
                (self._lost(way) - lost) / max(gain, 1e-9) for way, gain in zip(ways, saved, strict=True)
            ]
            kept = ways[int(np.argmin(prices))]
            lost, macs = self._lost(kept), self._macs([kept])[0]
        return kept

    def uniform(self, at: tuple[int, ...], fits: Fits) -> EViT | None:
        """The largest share, kept by all of these blocks, that fits; None where none does."""
        grid = [round(float(share), 3) for share in np.arange(1.0, 0.0, -0.005)]
        allowed = fits(self.tokens([dict.fromkeys(at, share) for share in grid]))
        fitting = [share for share, fit in zip(grid, allowed, strict=True) if fit]
        return EViT(keep=fitting[0], at=at, score=self.score) if fitting else None

    def _next(self, kept: dict[int, float], allowed: Sequence[int]) -> list[tuple[int, float]]:
        """Blocks that may keep less than now, with the next share."""
        found = []
        for block in allowed:
            share = round(kept.get(block, 1.0) - STEP, 3)
            if not crowded(block, kept) and share >= FEWEST:
                found.append((block, share))
        return found

    def _lost(self, kept: dict[int, float]) -> float:
        there, left = 1.0, {}
        for block in sorted(kept):
            there *= kept[block]
            left[block] = there
        return self.lost(left)

    def lost(self, left: dict[int, float]) -> float:
        """Attention that would leave where blocks leave these shares of all patches, taking what earlier
        blocks left for what is best here too."""
        there, lost = 1.0, 0.0
        for block in sorted(left):
            curve = self.curves[block]
            lost += _at(curve, there) - _at(curve, left[block])
            there = left[block]
        return lost

    def tokens(self, ways: Sequence[dict[int, float]]) -> np.ndarray:
        """The patch tokens that leave every block: [ways, blocks]"""
        rows = []
        for kept in ways:
            count, row = self.model.patch_count, []
            for block in range(self.model.depth):
                if block in kept:
                    left = int(np.ceil(kept[block] * count))
                    count = count if left >= count else left + 1
                row.append(count)
            rows.append(row)
        return np.array(rows)

    def _macs(self, ways: Sequence[dict[int, float]]) -> list[float]:
        return [float(cost) for cost in self.costs(self.tokens(ways))]


def improve(
    found: Left,
    greedy: Callable[[tuple[int, ...]], Left | None],
    lost: Callable[[Left], float],
    blocks: range,
) -> Left:
    """A way, with one block shifted, added or left out for as long as that loses less."""
    while True:
        others = [greedy(at) for at in _near(tuple(sorted(found)), blocks)]
        better = min((way for way in others if way), key=lost, default=found)
        if lost(better) >= lost(found) - 1e-9:
            return found
        found = better


def crowded(block: int, others: Iterable[int]) -> bool:
    """Whether another one is too near."""
    return any(0 < abs(block - other) < APART for other in others)


def _near(at: tuple[int, ...], blocks: range) -> list[tuple[int, ...]]:
    """These blocks with one shifted, added or left out, by the spacing rules."""
    found = {tuple(sorted({*at} ^ {block})) for block in blocks}
    found |= {
        tuple(sorted({*at} - {old} | {new})) for old in at for new in (old - 1, old + 1) if new in blocks
    }
    return [way for way in found if way and all(b - a >= APART for a, b in pairwise(way))]


def _at(curve: np.ndarray, share: float) -> float:
    return float(np.interp(share * (len(curve) - 1), np.arange(len(curve)), curve))


def mass_curves(model: StagedViT, batches: Sequence[tuple[Tensor, Tensor]]) -> dict[int, np.ndarray]:
    """By block, the share of attention that the best 0, 1, 2, ... N tokens hold: the mean over images."""
    found = {}
    for block, _, ranked in scores(model, batches):
        falling = shares(ranked).sort(dim=1, descending=True).values.cumsum(1).mean(0)
        found[block] = np.concatenate([[0.0], falling.double().cpu().numpy()])
    return found


def scores(
    model: StagedViT, batches: Sequence[tuple[Tensor, Tensor]]
) -> list[tuple[int, KeepAttended, Tensor]]:
    images, model = some_images(batches, "plan --schedule"), model.eval()
    steps = [(block, part) for block, part in placed(model) if isinstance(part, KeepAttended)]
    return [(block, step, entering_scores(model, block, step, images)) for block, step in steps]
