"""What flows through a Vision Transformer here, and the one operation that makes it shorter. Read this file
first.

Letters, the same in every file:

    B batch, P prefix tokens (class, distillation, registers, prompts), N patch tokens now, M patch tokens
    after a reduction, N0 patch tokens at the start, T = P + N, D width, H heads, d head width.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenState:
    """The tokens of a batch of images between two blocks, with all that is known about them. Never modified,
    only replaced.

    Attributes:
        tokens: [B, P+N, D], prefix tokens first, then patches.
        prefix: P. Reducers never touch the first P tokens.
        sizes: [B, N], how many original patches each patch token stands for (float32 or better).
        position: [B, N], the cell of the original grid each token sits on; rotary tables are gathered by it.
        source: [B, N0], where original patch i lives now (0..N-1), -1 once it was dropped.
        grid: the original grid, (rows, columns) or (frames, rows, columns).
        trail: earlier adapter outputs [B, P+N, D], newest first, kept aligned with `tokens` by every
            reduction.
        keep: [B, N] soft or hard keep mask while a pruner learns, or padding where images keep different
            counts; usually None.
        penalty: a scalar that learned reducers add to the training loss; usually None.
        dispatched: for every block with a dispatcher, [B, N] which of the patches it had then passed its MLP.
        complete: dispatchers let everything pass.
        moved: some reduction has taken place, even one that left as many tokens.
        spent: what the blocks so far cost, while a reducer learns to meet a budget; usually None.
        history: what every reduction did, in order, for `vitrim.restore`; None unless `run(images,
            history=True)`.
    """

    tokens: Tensor
    prefix: int
    sizes: Tensor
    position: Tensor
    source: Tensor
    grid: tuple[int, ...]
    trail: tuple[Tensor, ...] = ()
    keep: Tensor | None = None
    penalty: Tensor | None = None
    spent: Tensor | None = None
    history: "tuple[Reduction, ...] | None" = None
    dispatched: tuple[Tensor, ...] = ()
    complete: bool = False
    moved: bool = False

    @staticmethod
    def start(tokens: Tensor, prefix: int, grid: tuple[int, ...]) -> "TokenState":
        """The state before the first block: every patch stands for itself, in its own cell."""
        count = tokens.shape[1] - prefix
        if count != math.prod(grid):
            raise ValueError(f"{count} patch tokens do not fill a grid of {grid} cells")
        cells = torch.arange(count, device=tokens.device).expand(tokens.shape[0], -1)  # [B, N]
        sizes = torch.ones(
            (tokens.shape[0], count), device=tokens.device, dtype=at_least_float32(tokens.dtype)
        )
        return TokenState(tokens, prefix, sizes, position=cells, source=cells, grid=tuple(grid))

    @property
    def count(self) -> int:
        """N, a Python integer: shapes are known before the image is."""
        return self.tokens.shape[1] - self.prefix

    @property
    def full(self) -> bool:
        """Whether every patch of the original grid is still a token of its own, in grid order."""
        return not self.moved

    def first(self, rows: int) -> "TokenState":
        """Only the first `rows` tokens, all of them prefix: what the last block needs when the head reads
        nothing else."""
        return replace(
            self,
            tokens=self.tokens[:, :rows],
            prefix=rows,
            sizes=self.sizes[:, :0],
            position=self.position[:, :0],
            trail=tuple(earlier[:, :rows] for earlier in self.trail),
            keep=None,
        )

    def without_prompts(self, prefix: int) -> "TokenState":
        """Only the backbone's own `prefix` tokens before the patches: prompts must not reach a pooling
        head."""
        if self.prefix == prefix:
            return self
        own = [
            torch.cat([tokens[:, :prefix], tokens[:, self.prefix :]], dim=1)
            for tokens in (self.tokens, *self.trail)
        ]
        return replace(self, tokens=own[0], trail=tuple(own[1:]), prefix=prefix)


@dataclass(frozen=True)
class Reduction:
    """One reduction as it happened: patch tokens `before` [B, N, D] and `after` [B, M, D] it, the new place
    of each (`slots`
    [B, N], -1 for dropped), and which of the new ones are tokens rather than padding (`keep` [B, M], None
    where all are)."""

    before: Tensor
    after: Tensor
    slots: Tensor
    keep: Tensor | None


@dataclass(frozen=True)
class Grouping:
    """One reduction: which slot every patch token goes to, and with what weight. Reducers decide it,
    `regroup` applies it.

    `slots` says it all; the other fields say the same in the form that is cheap to compute: every slot is led
    by one old token, and the tokens without a slot of their own are joined to a leader's slot (merging) or
    fused into one last slot (EViT).

    Attributes:
        slots: [B, N], the new place 0..M-1 of every old patch token, -1 for dropped.
        lead: [B, M], the old token whose place in the grid a slot keeps.
        join: [B, R], old tokens that are averaged into the slot `slots` gives them, weighted by size; None
            where none are.
        fuse: [B, N], weights of the old tokens in the last slot, zero for all that are elsewhere; None where
            nothing is fused.
        member: [B, M, N], membership as a differentiable 0/1 matrix, used instead of the indices while a
            matching learns.
    """

    slots: Tensor
    lead: Tensor
    join: Tensor | None = None
    fuse: Tensor | None = None
    member: Tensor | None = None


def regroup(state: TokenState, grouping: Grouping) -> TokenState:
    """Apply one reduction to tokens, trail, sizes, position and source alike: N patch tokens become M, the
    prefix stays.

    A slot's token is the mean of its members weighted by `sizes`; a fused slot is the sum weighted by
    `grouping.fuse`. Tokens alone in their slot are moved bit for bit.
    """
    sizes = _regroup_sizes(state.sizes, grouping)  # [B, M]
    weights = _share_of_slot(state.sizes, sizes, grouping)  # [B, N] or None
    source = torch.where(state.source < 0, -1, grouping.slots.gather(1, state.source.clamp(min=0)))  # [B, N0]
    reduced = replace(
        state,
        moved=True,
        tokens=_regroup_rows(state.tokens, state.prefix, grouping, weights),
        trail=tuple(_regroup_rows(earlier, state.prefix, grouping, weights) for earlier in state.trail),
        sizes=sizes,
        position=state.position.gather(1, grouping.lead),
        source=source,
        keep=None if state.keep is None else state.keep.gather(1, grouping.lead),
    )
    return remember(state, reduced, grouping.slots)


def remember(before: TokenState, after: TokenState, slots: Tensor) -> TokenState:
    """Add the step from `before` to `after` to the history, where one is kept."""
    if before.history is None:
        return after
    patches = before.tokens[:, before.prefix :], after.tokens[:, after.prefix :]
    return replace(after, history=(*before.history, Reduction(*patches, slots, after.keep)))


def take_rows(tokens: Tensor, index: Tensor) -> Tensor:
    """Rows `index` [B, M] of `tokens` [B, N, D] -> [B, M, D]; ten times faster than gather with an index
    expanded over D."""
    batch, count, width = tokens.shape
    start = torch.arange(batch, device=index.device)[:, None] * count  # [B, 1]
    return (
        tokens.reshape(batch * count, width).index_select(0, (index + start).flatten()).view(batch, -1, width)
    )


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The dtype itself or float32, whichever is more precise: sizes, scores and matching never run in half
    precision."""
    return torch.promote_types(dtype, torch.float32)


def _regroup_sizes(sizes: Tensor, grouping: Grouping) -> Tensor:
    if grouping.member is not None:
        return (grouping.member.to(sizes.dtype) @ sizes[..., None]).squeeze(-1)
    own = sizes.gather(1, grouping.lead)  # [B, M]
    if grouping.join is not None:
        own = own.scatter_add(1, grouping.slots.gather(1, grouping.join), sizes.gather(1, grouping.join))
    if grouping.fuse is not None:
        last = grouping.lead.shape[1] - 1
        own = torch.cat([own[:, :last], (sizes * (grouping.slots == last)).sum(1, keepdim=True)], dim=1)
    return own


def _share_of_slot(old: Tensor, new: Tensor, grouping: Grouping) -> Tensor | None:
    """The weight of every old token inside its slot when slots are averaged by size: [B, N], or [B, M, N] for
    a matrix."""
    if grouping.member is not None:
        return grouping.member.to(old.dtype) * old[:, None] / new[..., None]
    if grouping.join is not None:
        return old / new.gather(1, grouping.slots.clamp(min=0))
    return None


def _regroup_rows(tokens: Tensor, prefix: int, grouping: Grouping, weights: Tensor | None) -> Tensor:
    """[B, P+N, C] -> [B, P+M, C]."""
    if grouping.member is not None and weights is not None:
        return torch.cat([tokens[:, :prefix], weights.to(tokens.dtype) @ tokens[:, prefix:]], dim=1)
    lead = grouping.lead if grouping.fuse is None else grouping.lead[:, :-1]
    head = torch.arange(prefix, device=tokens.device).expand(tokens.shape[0], -1)  # [B, P]
    rows = take_rows(tokens, torch.cat([head, lead + prefix], dim=1))  # [B, P+M, C]
    if grouping.fuse is not None:
        fused = grouping.fuse[:, None].to(tokens.dtype) @ tokens[:, prefix:]  # [B, 1, C]
        return torch.cat([rows, fused.to(tokens.dtype)], dim=1)
    if grouping.join is None or weights is None:
        return rows
    share = torch.cat(
        [torch.ones_like(head, dtype=weights.dtype), weights.gather(1, lead)], dim=1
    )  # [B, P+M]
    joining = take_rows(tokens, grouping.join + prefix)  # [B, R, C]
    joining = joining * weights.gather(1, grouping.join)[..., None].to(tokens.dtype)
    target = grouping.slots.gather(1, grouping.join) + prefix  # [B, R]
    return _add_rows(rows * share[..., None].to(tokens.dtype), target, joining)


def _add_rows(rows: Tensor, index: Tensor, added: Tensor) -> Tensor:
    """Add `added` [B, R, C] onto rows `index` [B, R] of `rows` [B, M, C]."""
    batch, count, width = rows.shape
    start = torch.arange(batch, device=index.device)[:, None] * count
    flat = rows.reshape(batch * count, width)
    return flat.index_add(0, (index + start).flatten(), added.flatten(0, 1)).view(batch, count, width)
