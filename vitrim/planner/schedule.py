"""Where to reduce, and how much: blocks and shares found on images, greedily, beside published placements.

At every step, of all blocks that may keep less, the one is taken that loses the least attention of the
class token (or whatever ranks tokens) for the operations it saves, until the budget is met; then blocks are
shifted, added or left out while that loses less. They stand at least two apart and not before the fourth
(TR-PTS, section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from torch import Tensor

from vitrim.checks import check_share
from vitrim.measuring.costs import costs
from vitrim.measuring.costs_on_images import learned_costs
from vitrim.methods.budgets.calibrating import entering_scores, some_images
from vitrim.methods.budgets.chosen import shares
from vitrim.methods.reducers.evit import EViT
from vitrim.methods.reducers.keeping import KeepAttended
from vitrim.methods.selection.placement import PLACEMENTS, choose_blocks
from vitrim.methods.selection.shares import block_shares
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.network.placing import placed

FIRST, APART, FEWEST, STEP = 3, 2, 0.1, 0.05  # of the shares a block may keep

Composer = Callable[[Sequence[Method]], StagedViT]


@dataclass(frozen=True)
class Placement:
    """One way to come down to the budget.

    Attributes:
        name: "greedy", or a rule of TR-PTS.
        method: the composition that does it.
        share: of the plain backbone's multiply-accumulates, as executed.
        lost: attention that leaves with the tokens, summed over the blocks, measured with the blocks before
            as they are; mean of the images.
    """

    name: str
    method: EViT
    share: float
    lost: float


def schedules(compose: Composer, batches: Sequence[tuple[Tensor, Tensor]], budget: float) -> list[Placement]:
    """The greedy schedule, then as many blocks by the rules of TR-PTS with one share for all.

    Args:
        compose: makes the task's model with some methods, the same weights each time.
        batches: images and labels to measure on.
        budget: share of the plain backbone's multiply-accumulates to come down to.
    """
    check_share("plan --schedule", "budget", budget)
    plain, search = costs(compose(())).macs, _Search(compose, batches)
    greedy = search.best(budget * plain)
    found = [_measured("greedy", greedy, compose, batches, plain)]
    weights = block_shares(compose(()), batches, greedy)
    for rule in PLACEMENTS:
        at = choose_blocks(weights, rule, greedy.count, FIRST, APART)
        uniform = search.uniform(at, budget * plain)
        if uniform is not None:
            found.append(_measured(rule, uniform, compose, batches, plain))
    return found


class _Search:
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
        while True:
            others = [self.greedy(most, at) for at in self._near(tuple(sorted(kept)))]
            better = min((way for way in others if way), key=self._lost, default=kept)
            if self._lost(better) >= self._lost(kept) - 1e-9:
                break
            kept = better
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

    def _near(self, at: tuple[int, ...]) -> list[tuple[int, ...]]:
        """These blocks with one shifted, added or left out, by the spacing rules."""
        found = {tuple(sorted({*at} ^ {block})) for block in self.blocks}
        found |= {
            tuple(sorted({*at} - {old} | {new}))
            for old in at
            for new in (old - 1, old + 1)
            if new in self.blocks
        }
        return [way for way in found if way and all(b - a >= APART for a, b in pairwise(way))]

    def uniform(self, at: tuple[int, ...], most: float) -> EViT | None:
        """The largest share that, kept by all of these blocks, costs at most that; None where none does."""
        grid = [round(float(share), 3) for share in np.arange(1.0, 0.0, -0.005)]
        macs = self._macs([dict.fromkeys(at, share) for share in grid])
        fitting = [share for share, cost in zip(grid, macs, strict=True) if cost <= most]
        return EViT(keep=fitting[0], at=at, score=self.score) if fitting else None

    def _next(self, kept: dict[int, float], allowed: Sequence[int]) -> list[tuple[int, float]]:
        """Blocks that may keep less than now, with the next share."""
        found = []
        for block in allowed:
            near = any(0 < abs(block - other) < APART for other in kept)
            share = round(kept.get(block, 1.0) - STEP, 3)
            if not near and share >= FEWEST:
                found.append((block, share))
        return found

    def _lost(self, kept: dict[int, float]) -> float:
        """Attention that would leave, taking what earlier blocks left for what is best here too."""
        there, lost = 1.0, 0.0
        for block in sorted(kept):
            curve, left = self.curves[block], there * kept[block]
            lost += _at(curve, there) - _at(curve, left)
            there = left
        return lost

    def _macs(self, ways: Sequence[dict[int, float]]) -> list[float]:
        rows = []
        for kept in ways:
            count, row = self.model.patch_count, []
            for block in range(self.model.depth):
                if block in kept:
                    left = int(np.ceil(kept[block] * count))
                    count = count if left >= count else left + 1
                row.append(count)
            rows.append(row)
        return [float(cost) for cost in self.costs(np.array(rows))]


def _at(curve: np.ndarray, share: float) -> float:
    return float(np.interp(share * (len(curve) - 1), np.arange(len(curve)), curve))


def mass_curves(model: StagedViT, batches: Sequence[tuple[Tensor, Tensor]]) -> dict[int, np.ndarray]:
    """By block, the share of attention that the best 0, 1, 2, ... N tokens hold: the mean over images."""
    found = {}
    for block, _, ranked in _scores(model, batches):
        falling = shares(ranked).sort(dim=1, descending=True).values.cumsum(1).mean(0)
        found[block] = np.concatenate([[0.0], falling.double().cpu().numpy()])
    return found


def _scores(
    model: StagedViT, batches: Sequence[tuple[Tensor, Tensor]]
) -> list[tuple[int, KeepAttended, Tensor]]:
    images, model = some_images(batches, "plan --schedule"), model.eval()
    steps = [(block, part) for block, part in placed(model) if isinstance(part, KeepAttended)]
    return [(block, step, entering_scores(model, block, step, images)) for block, step in steps]


def _measured(
    name: str, method: EViT, compose: Composer, batches: Sequence[tuple[Tensor, Tensor]], plain: int
) -> Placement:
    """A schedule as it is: counted, and run on the images."""
    model, lost = compose((method,)), 0.0
    for _, step, ranked in _scores(model, batches):
        held = shares(ranked).topk(step.kept(ranked.shape[1]), dim=1).values.sum(1)
        lost += 1 - held.mean().item()
    return Placement(name, method, costs(model).macs / plain, lost)


def table(found: Sequence[Placement]) -> str:
    """One line for each placement, as text."""
    rows = [("placement", "MACs", "lost", "composition")]
    rows += [(each.name, f"{each.share:.3f}", f"{each.lost:.4f}", repr(each.method)) for each in found]
    missing = [rule for rule in PLACEMENTS if rule not in {each.name for each in found}]
    rows += [(rule, "-", "-", "its blocks come so late that no share comes down to that") for rule in missing]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}" for row in rows
    )
