"""Which blocks to thin: those where the task needs the fewest weights changed (TR-PTS, section 3.3)."""

import random
from collections.abc import Sequence
from functools import cache

PLACEMENTS = ("sparse", "dense", "random")


def choose_blocks(
    shares: Sequence[float], rule: str, blocks: int, first: int = 3, apart: int = 2, seed: int = 0
) -> tuple[int, ...]:
    """The `blocks` blocks, none before `first` and each `apart` after the last, that together hold the
    smallest ("sparse") or largest ("dense") share of the top weights, or any of them ("random").

    Raises:
        ValueError: if so many do not fit.
    """
    depth = len(shares)
    if first + (blocks - 1) * apart >= depth:
        raise ValueError(
            f"{blocks} blocks from block {first} on, {apart} apart, do not fit into {depth} blocks; "
            "ask for fewer, or set first or apart lower"
        )
    luck = random.Random(seed)
    drawn = [luck.random() for _ in range(depth)]
    prices = {"sparse": shares, "dense": [-share for share in shares], "random": drawn}[rule]

    @cache
    def best(start: int, left: int) -> tuple[float, tuple[int, ...]]:
        if left == 0:
            return 0.0, ()
        options = []
        for block in range(start, depth - (left - 1) * apart):
            price, rest = best(block + apart, left - 1)
            options.append((prices[block] + price, (block, *rest)))
        return min(options)

    return best(first, blocks)[1]
