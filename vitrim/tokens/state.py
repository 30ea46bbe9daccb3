"""What flows through a Vision Transformer here, and the one operation that makes it shorter. Read this file
first.

Letters, the same in every file:

    B batch, P prefix tokens (class, distillation, registers, prompts), N patch tokens now, M patch tokens
    after a reduction, N0 patch tokens at the start, T = P + N, D width, H heads, d head width.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitrim.tokens.grouping import Grouping as Grouping
from vitrim.tokens.grouping import Mover, with_membership
from vitrim.tokens.grouping import take_rows as take_rows
from vitrim.tokens.later import Later, Worked, known
from vitrim.tokens.ragged import Ragged, leading


class Padding(NamedTuple):
    """Of a batch of images of many sizes: the grid of each, and how many of its patch tokens are its own, the
    first ones."""

    grids: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]


class Clips(NamedTuple):
    """Of clips: how many views of each the rows of a batch are, one after the other, and how many frames of
    each view."""

    views: int
    frames: int


@dataclass(frozen=True)
class SideState:
    """What a side stream carries from block to block.

    Attributes:
        tokens: [B, P+N, D], a token beside each of the sequence's, kept aligned with them by every reduction.
        values: whatever else it gathers; reductions leave it alone.
    """

    tokens: Tensor | None = None
    values: tuple[Tensor, ...] = ()

    def changed(self, change: Callable[[Tensor], Tensor]) -> "SideState":
        """The same after something has happened to the sequence."""
        return self if self.tokens is None else replace(self, tokens=change(self.tokens))


@dataclass(frozen=True)
class TokenState:
    """The tokens of a batch of images between two blocks, with all that is known about them. Never modified,
    only replaced, by `replaced` where time counts: what nobody reads of sizes, position and source is never
    worked out (vitrim/tokens/later.py).

    Attributes:
        tokens: [B, P+N, D], prefix tokens first, then patches.
        prefix: P. Reducers never touch the first P tokens.
        sizes: [B, N], how many original patches each patch token stands for (float32 or better).
        position: [B, N], the cell of the original grid each token sits on; rotary tables are gathered by it.
        source: [B, N0], where original patch i lives now (0..N-1), -1 once it was dropped.
        grid: the original grid, (rows, columns) or (frames, rows, columns).
        trail: earlier adapter outputs [B, P+N, D], newest first, kept aligned with `tokens` by every
            reduction.
        keep: [B, N] soft or hard keep mask while a pruner learns, or padding where images keep or have
            different counts; usually None.
        padding: for images of many sizes in one batch (vitrim/tokens/padded.py); usually None.
        penalty: a scalar that learned reducers add to the training loss; usually None.
        attention: [B, H, T, T] of every block so far; None unless `run(images, attention=True)`.
        dispatched: for every block with a dispatcher, [B, N] which of the patches it had then passed its MLP.
        complete: dispatchers let everything pass.
        by_products: reductions multiply with one-hot matrices instead of adding to rows in place: the same up
            to rounding, slower, for engines that cannot scatter.
        moved: some reduction has taken place, even one that left as many tokens.
        spent: what the blocks so far cost, while a reducer learns to meet a budget; usually None.
        history: what every reduction did, in order, for `vitrim.restore`; None unless `run(images,
            history=True)`.
        side: what each side stream carries; see `vitrim.network.side`.
        clips: of which views and frames the B rows are; None of images.
        ragged: of images one after the other without padding: `tokens` and `trail` are [1, S, D] then, of S
            tokens in all, while everything else is padded as ever (vitrim/tokens/ragged.py); usually None.
    """

    tokens: Tensor
    prefix: int
    sizes: Worked = Worked()
    position: Worked = Worked()
    source: Worked = Worked()
    grid: tuple[int, ...]  # type: ignore[misc]  # the three before it have no defaults
    trail: tuple[Tensor, ...] = ()
    keep: Tensor | None = None
    padding: Padding | None = None
    penalty: Tensor | None = None
    spent: Tensor | None = None
    history: "tuple[Reduction, ...] | None" = None
    attention: tuple[Tensor, ...] | None = None
    dispatched: tuple[Tensor, ...] = ()
    complete: bool = False
    by_products: bool = False
    moved: bool = False
    side: tuple[SideState, ...] = ()
    clips: Clips | None = None
    ragged: Ragged | None = None

    @staticmethod
    def start(tokens: Tensor, prefix: int, grid: tuple[int, ...]) -> "TokenState":
        """The state before the first block: every patch stands for itself, in its own cell."""
        count = tokens.shape[1] - prefix
        if count != math.prod(grid):
            raise ValueError(f"{count} patch tokens do not fill a grid of {grid} cells")
        sizes = Later(_ones, tokens, count)
        cells = Later(_cells, tokens, count)
        return TokenState(tokens, prefix, sizes, position=cells, source=cells, grid=tuple(grid))

    def replaced(self, **changes: Any) -> "TokenState":
        """As `dataclasses.replace`, in a quarter of the time, and without reading what is yet to be worked
        out."""
        changed = object.__new__(TokenState)
        changed.__dict__.update(self.__dict__)
        changed.__dict__.update(changes)
        return changed

    def noted(self, name: str) -> Any:
        """A field as it was put in: the tensor, or how to work it out."""
        return self.__dict__[name]

    @property
    def count(self) -> int:
        """N, a Python integer: shapes are known before the image is. Of ragged images, the longest's."""
        return self.tokens.shape[1] - self.prefix if self.ragged is None else max(self.ragged.counts)

    @property
    def started(self) -> int:
        """N0, the patch tokens there were at the start."""
        return math.prod(self.grid)

    @property
    def full(self) -> bool:
        """Whether every patch of the original grid is still a token of its own, in grid order."""
        return not self.moved

    def first(self, rows: int) -> "TokenState":
        """Only the first `rows` tokens, all of them prefix: what the last block needs when the head reads
        nothing else."""
        return self.replaced(
            tokens=self.leading(self.tokens, rows),
            prefix=rows,
            sizes=Later(_none_of, self.noted("sizes")),
            position=Later(_none_of, self.noted("position")),
            trail=tuple(self.leading(earlier, rows) for earlier in self.trail),
            side=tuple(each.changed(lambda tokens: tokens[:, :rows]) for each in self.side),
            keep=None,
            padding=None,
            ragged=None,
        )

    def leading(self, tokens: Tensor, rows: int) -> Tensor:
        """The first `rows` of every image's, of what belongs to the tokens: [B, rows, C]"""
        ragged = self.ragged
        return tokens[:, :rows] if ragged is None else leading(tokens, ragged.lengths(self.prefix), rows)

    def without_prompts(self, prefix: int) -> "TokenState":
        """Only the backbone's own `prefix` tokens before the patches: prompts must not reach a pooling
        head."""
        if self.prefix == prefix:
            return self

        def own(tokens: Tensor) -> Tensor:
            return torch.cat([tokens[:, :prefix], tokens[:, self.prefix :]], dim=1)

        return self.replaced(
            tokens=own(self.tokens),
            trail=tuple(map(own, self.trail)),
            side=tuple(each.changed(own) for each in self.side),
            prefix=prefix,
        )


@dataclass(frozen=True)
class Reduction:
    """One reduction as it happened: patch tokens `before` [B, N, D] and `after` [B, M, D] it, the new place
    of each (`slots`
    [B, N], -1 for dropped), which of the new ones are tokens rather than padding (`keep` [B, M], None
    where all are), and whether the last of the new ones was fused from what was not kept."""

    before: Tensor
    after: Tensor
    slots: Tensor
    keep: Tensor | None
    fused: bool = False
    fused_at: Tensor | None = None  # [B], where it is in each image, -1 for nowhere, if not the last in all


def regroup(state: TokenState, grouping: Grouping) -> TokenState:
    """Apply one reduction to tokens, trail, sizes, position and source alike: N patch tokens become M, the
    prefix stays.

    A slot's token is the mean of its members weighted by `sizes`; a fused slot is the sum weighted by
    `grouping.fuse`. Tokens alone in their slot are moved bit for bit.
    """
    refuse_older_exporter()
    if state.by_products and grouping.join is not None:
        grouping = with_membership(grouping)
    sizes, lead, slots = state.noted("sizes"), grouping.lead, grouping.noted_slots()
    move = Mover(grouping, sizes, state.tokens.shape[1], state.prefix)
    reduced = state.replaced(
        moved=True,
        tokens=move(state.tokens),
        trail=tuple([move(earlier) for earlier in state.trail]),
        side=tuple([each.changed(move) for each in state.side]),
        sizes=move.sizes,
        position=Later(at_lead, state.noted("position"), lead),
        source=Later(followed, state.noted("source"), slots),
        keep=None if state.keep is None else state.keep.gather(1, lead),
    )
    return remember(state, reduced, slots, grouping.fuse is not None)


def refuse_older_exporter() -> None:
    """Raise ValueError while torch's older ONNX exporter traces."""
    if torch.jit.is_tracing() and torch.onnx.is_in_onnx_export():
        raise ValueError(
            "torch's older ONNX exporter (dynamo=False) would write the traced batch size into every "
            "reduction; use vitrim.export or `vitrim export`, or torch.onnx.export(..., dynamo=True)"
        )


def _cells(tokens: Tensor, count: int) -> Tensor:
    return torch.arange(count, device=tokens.device).expand(tokens.shape[0], -1)  # [B, N]


def _ones(tokens: Tensor, count: int) -> Tensor:
    return torch.ones((tokens.shape[0], count), device=tokens.device, dtype=at_least_float32(tokens.dtype))


def _none_of(value: Tensor) -> Tensor:
    return value[:, :0]


def at_lead(position: Tensor, lead: Tensor) -> Tensor:
    """What the leaders of slots have. [B, M]"""
    return position.gather(1, lead)  # [B, M]


def followed(source: Tensor, slots: Tensor) -> Tensor:
    """Where the patches of the start live after one more reduction. [B, N0]"""
    return torch.where(source < 0, -1, slots.gather(1, source.clamp(min=0)))


def remember(
    before: TokenState,
    after: TokenState,
    slots: "Tensor | Later",
    fused: bool = False,
    fused_at: Tensor | None = None,
) -> TokenState:
    """Add the step from `before` to `after` to the history, where one is kept."""
    if before.history is None:
        return after
    patches = before.tokens[:, before.prefix :], after.tokens[:, after.prefix :]
    step = Reduction(*patches, known(slots), after.keep, fused, fused_at)
    return after.replaced(history=(*before.history, step))


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The dtype itself or float32, whichever is more precise: sizes, scores and matching never run in half
    precision."""
    return dtype if dtype == torch.float64 else torch.float32


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Autocast off, for scores and matching; tensors without values, on which costs count, have none. Where
    it is off anyway nothing is noted, because an exporter would make a graph of its own of each such part."""
    kind = "cpu" if device.type == "meta" else device.type
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)
