"""Pool: average or take the maximum of neighbouring patches, wherever they look alike or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from vitrim.checks import block_indices, check_one_of, check_positive, several
from vitrim.network.method import Method, option, store_setting
from vitrim.network.parts import Reducer
from vitrim.network.placing import weigh_by_size_after
from vitrim.tokens.attended import Attended
from vitrim.tokens.state import Grouping, Reduction, TokenState, regroup, take_rows

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class Pool(Method):
    """Make one token of every small window of patches: the fixed pairing that FPET's tables A3 and A4 compare
    with.

    On the grid of patches, windows of `window` (rows, columns) cells; what does not fill a window at the
    lower and right edge forms smaller ones, so of an odd width the last column stays single:

        avg   x_w = mean of the window's tokens          max   x_w = their element-wise maximum

    The prefix stays. A token remembers how many patches it stands for, and later blocks add the logarithm of
    it to the products with its key (proportional attention), for both kinds. Adapter outputs that dense
    adapters remember are averaged in both. FPET says neither which patches are paired nor whether sizes
    count, and released no code: horizontal pairs, 14x14 -> 14x7, and sizes as for its other mergers are this
    library's choice. On a grid with frames, every frame is pooled by itself.

    Attributes:
        at: the block that pools, counted from 0; it needs the full grid, so no other reducer may come before.
        kind: "avg" or "max".
        window: rows and columns of a window; one number f stands for (f, f).
        proportional: whether later blocks weigh tokens by size.
    """

    reduces: ClassVar[bool] = True
    without: ClassVar[Mapping[str, str]] = {
        "budget": "it averages windows of the grid and ranks nothing, so counts are the same in every image; "
        "EViT and DynamicViT rank tokens and have one"
    }

    at: tuple[int, ...] = (6,)
    kind: str = "avg"
    window: tuple[int, int] = option((1, 2))
    proportional: bool = option(True)

    def __post_init__(self) -> None:
        store_setting(self, "at", block_indices("Pool", self.at))
        check_one_of("Pool", "kind", self.kind, ("avg", "max"))
        sides = several("Pool", "window", self.window, int)
        store_setting(self, "window", sides * 2 if isinstance(self.window, int) else sides)
        if len(self.window) != 2:
            raise ValueError(f"Pool: window must be (rows, columns) or one number, got {self.window!r}")
        for side in self.window:
            check_positive("Pool", "window", side)
        if prod(self.window) == 1:
            raise ValueError("Pool: a window of one cell pools nothing; make it at least (1, 2)")

    def attach(self, model: "StagedViT") -> None:
        grid = model.grid
        if len(grid) != 2:
            raise ValueError(f"{self}: windows are cut from images, but the grid here is {grid}; use ToMe")
        model.reduce_at(self.at, [PoolWindows(self, grid) for _ in self.at], by=self)
        if self.proportional:
            weigh_by_size_after(model, min(self.at))


class PoolWindows(Reducer):
    """One block's pooling."""

    needs_grid = True

    def __init__(self, settings: Pool, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.settings, self.grid = settings, grid
        self.commutes = settings.kind == "avg"  # a maximum does not commute with the projection

    def leaving(self, entering: int) -> int:
        return len(windows(self.grid, self.settings.window)) if entering == prod(self.grid) else entering

    def forward(self, state: TokenState, attended: Attended) -> TokenState:
        if not state.full or state.keep is not None:
            raise ValueError(
                f"{self.settings} needs the full grid of {prod(state.grid)} patches, but its tokens "
                "have been moved or masked; put Pool before other reducers"
            )
        members = windows(state.grid, self.settings.window)
        grouping = window_grouping(members, state.tokens)
        pooled = regroup(state, grouping)
        return pooled if self.settings.kind == "avg" else _with_maximum(state, pooled, members)


def windows(grid: Sequence[int], window: tuple[int, int]) -> list[list[int]]:
    """The cells of each window of a (frames,) rows, columns grid, in grid order; smaller ones at the far
    edges.
    """
    frames, rows, columns = prod(grid[:-2]), *map(int, grid[-2:])  # tracing gives tensors
    return [
        [
            (frame * rows + row) * columns + column
            for row in range(top, min(top + window[0], rows))
            for column in range(left, min(left + window[1], columns))
        ]
        for frame in range(frames)
        for top in range(0, rows, window[0])
        for left in range(0, columns, window[1])
    ]


def window_grouping(members: list[list[int]], tokens: Tensor) -> Grouping:
    """The reduction that averages each list of cells, the same for every image; its first cell leads a
    window.
    """
    place = {cell: slot for slot, cells in enumerate(members) for cell in cells}
    table = (
        [place[cell] for cell in range(len(place))],
        [c[0] for c in members],
        [i for c in members for i in c[1:]],
    )
    batch, device = tokens.shape[0], tokens.device
    slots, lead, join = (
        torch.tensor(row, device=device, dtype=torch.long).expand(batch, -1) for row in table
    )
    return Grouping(slots, lead, join)


def _with_maximum(state: TokenState, pooled: TokenState, members: list[list[int]]) -> TokenState:
    """The pooled state with every window's element-wise maximum in place of its mean, in the history too."""
    longest = max(len(cells) for cells in members)
    padded = [cell for cells in members for cell in cells + cells[:1] * (longest - len(cells))]
    index = torch.tensor(padded, device=state.tokens.device).expand(state.tokens.shape[0], -1) + state.prefix
    largest = take_rows(state.tokens, index).unflatten(1, (len(members), longest)).amax(2)  # [B, M, D]
    tokens = torch.cat([state.tokens[:, : state.prefix], largest], dim=1)
    history = pooled.history
    if history:
        last = history[-1]
        history = (*history[:-1], Reduction(last.before, largest, last.slots, last.keep))
    return pooled.replaced(tokens=tokens, history=history)
