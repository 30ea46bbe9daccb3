"""Schedules that stop at the steps of a staircase: by the attention lost for every millisecond saved.

A block leaves one of the counts at the outer edge of a step (`Curve.treads`), where a token more would cost
a whole step and a token less saves nothing. At every turn the block and edge are taken that lose the least
attention for the time they save, until the budget is met; then counts are raised to earlier edges where the
budget allows it, and blocks are shifted, added or left out while that loses less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vitrim.methods.reducers.evit import EViT
from vitrim.planner.search import FEWEST, Fits, Search, crowded, improve
from vitrim.planner.staircase import Curve

SIGHT = 0.25  # how far below its present count a block looks for edges, as a share of all patches

Left = dict[int, int]  # by block, the patch tokens that leave it


class AtSteps:
    """The search for one budget: `fits` says which schedules meet it."""

    def __init__(self, search: Search, curve: Curve, fits: Fits) -> None:
        self.search, self.curve, self.fits = search, curve, fits
        self.whole, self.treads, self.slopes = curve.patch_count, curve.treads(), curve.with_slopes()

    def best(self) -> EViT:
        """Greedy over all blocks, then better ones near it."""
        blocks = self.search.blocks
        found = self.greedy(tuple(blocks))
        if found is None:
            raise ValueError(
                f"no schedule comes down to that: keeping {FEWEST:.0%} wherever it may reduce, the model "
                "still takes longer or more operations; ask for a larger budget"
            )
        found = improve(found, self.greedy, self.lost, blocks)
        at = tuple(sorted(found))
        entering = (self.whole, *(found[block] for block in at))
        keep = tuple(share_that_leaves(found[block], entering[place]) for place, block in enumerate(at))
        return EViT(keep=keep, at=at, score=self.search.score)

    def greedy(self, allowed: tuple[int, ...]) -> Left | None:
        """By block, the patches that leave it, or None where nothing meets the budget."""
        left: Left = {}
        while not self.fits(self.tokens([left]))[0]:
            ways = self._lower(left, allowed)
            if not ways:
                return None
            now, lost = self.curve.milliseconds(self.tokens([left]))[0], self.lost(left)
            saved = now - self.curve.milliseconds(self.tokens(ways))
            prices = [
                (self.lost(way) - lost) / max(gain, 1e-9) for way, gain in zip(ways, saved, strict=True)
            ]
            left = ways[int(np.argmin(prices))]
        return self._raised(left)

    def _lower(self, left: Left, allowed: Sequence[int]) -> list[Left]:
        """One block leaves fewer: at the next edge, or at one not far below."""
        ways = []
        for block in allowed:
            if crowded(block, left):
                continue
            entering = self._entering(left, block)
            present = left.get(block, entering)
            lower = [count for count in self.treads if FEWEST * entering + 1 <= count < present]
            near = [count for count in lower if count >= present - SIGHT * self.whole]
            ways += [_without_idle({**left, block: count}, self.whole) for count in near or lower[:1]]
        return ways

    def _raised(self, left: Left) -> Left:
        """With counts raised for as long as the budget allows it, the one first that loses least then; also
        to counts between edges, where the time rises with every token."""
        while True:
            ways = []
            for block, count in left.items():
                higher = [each for each in self.slopes if count < each < self._entering(left, block)]
                ways += [{**left, block: each} for each in higher[-1:]]
            allowed = self.fits(self.tokens(ways)) if ways else ()
            fitting = [way for way, fit in zip(ways, allowed, strict=True) if fit]
            if not fitting:
                return left
            left = min(fitting, key=self.lost)

    def _entering(self, left: Left, block: int) -> int:
        return min((count for other, count in left.items() if other < block), default=self.whole)

    def lost(self, left: Left) -> float:
        """Attention that would leave; one token of those that leave a block is fused from the others."""
        return self.search.lost({block: (count - 1) / self.whole for block, count in left.items()})

    def tokens(self, ways: Sequence[Left]) -> np.ndarray:
        """The patch tokens that leave every block: [ways, blocks]"""
        rows = np.full((len(ways), self.search.model.depth), self.whole)
        for row, left in zip(rows, ways, strict=True):
            for block in sorted(left):
                row[block:] = left[block]
        return rows


def _without_idle(left: Left, whole: int) -> Left:
    """Without blocks that would leave no fewer than enter them."""
    kept: Left = {}
    for block in sorted(left):
        if left[block] < whole:
            kept[block] = whole = left[block]
    return kept


def share_that_leaves(count: int, entering: int) -> float:
    """EViT's share to keep, rounded up, with which that many leave, the fused one included.

    >>> share_that_leaves(128, 196)
    0.6479
    """
    digits = 10 ** max(4, len(str(entering)))
    return math.floor((count - 1) / entering * digits) / digits
