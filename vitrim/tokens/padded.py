"""Batches of images of many sizes: as many tokens each as the largest has, the rest padding behind a mask.

Padding is never attended to, counted or pooled (`TokenState.keep`). A reduction runs on the images of one
grid at a time, without their padding: whatever it ranks, matches or pools is what it would be one by one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.tokens.attended import Attended
from vitrim.tokens.later import Later
from vitrim.tokens.ragged import Ragged, in_one_row, in_rows
from vitrim.tokens.state import Padding, SideState, TokenState, at_least_float32

Reduce = Callable[[TokenState, Attended | None], TokenState]


def start_padded(tokens: Tensor, prefix: int, grids: Sequence[tuple[int, int]]) -> TokenState:
    """The state before the first block: of image i, the first `prod(grids[i])` patches are its own."""
    state = TokenState.start(tokens, prefix, (1, tokens.shape[1] - prefix))
    padding = Padding(tuple(grids), tuple(prod(grid) for grid in grids))
    there = _mask(padding.counts, state.count, tokens)
    source = state.source if there is None else torch.where(there > 0, state.source, -1)
    return replace(state, keep=there, source=source, padding=padding)


def reduce_by_size(reduce: Reduce, state: TokenState, attended: Attended | None = None) -> TokenState:
    """One reduction of a padded batch: the images of each grid by themselves, padded together again."""
    if state.padding is None:
        return reduce(state, attended)
    groups: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for index, alike in enumerate(zip(*state.padding, strict=True)):
        groups.setdefault(alike, []).append(index)
    parts = []
    for (grid, count), indices in groups.items():
        rows = torch.tensor(indices, device=state.tokens.device)
        seen = None if attended is None else _seen_by(attended, rows, state.prefix + count)
        parts.append(reduce(_images(state, rows, grid, count), seen))
    return _together(state, parts, list(groups.values()))


def masked_by_count(state: TokenState, counts: Sequence[int]) -> TokenState:
    """The state of images of one grid whose first `counts` patch tokens are their own and the rest padding,
    which has no size; no mask where there is no padding."""
    there = _mask(counts, state.count, state.tokens)
    if there is None:
        return state.replaced(keep=None, padding=None)
    padding = Padding((state.grid,) * len(counts), tuple(counts))
    return state.replaced(sizes=Later(torch.mul, state.noted("sizes"), there), keep=there, padding=padding)


def in_a_row(state: TokenState) -> TokenState:
    """The same images one after the other, without padding."""
    counts = counts_of(state)
    lengths = [state.prefix + count for count in counts]
    trail = tuple(in_one_row(earlier, lengths) for earlier in state.trail)
    return state.replaced(tokens=in_one_row(state.tokens, lengths), trail=trail, ragged=Ragged(counts))


def in_a_batch(state: TokenState) -> TokenState:
    """The same images padded to the longest; a state that is not ragged itself."""
    if state.ragged is None:
        return state
    lengths = state.ragged.lengths(state.prefix)
    trail = tuple(in_rows(earlier, lengths) for earlier in state.trail)
    return state.replaced(tokens=in_rows(state.tokens, lengths), trail=trail, ragged=None)


def on_a_batch(change: Callable[[TokenState], TokenState], state: TokenState) -> TokenState:
    """`change`, which knows no images in one row, of the same images padded; in one row again where they
    were."""
    return change(state) if state.ragged is None else in_a_row(change(in_a_batch(state)))


def counts_of(state: TokenState) -> tuple[int, ...]:
    """How many patch tokens every image has of its own."""
    if state.ragged is not None:
        return state.ragged.counts
    return (state.count,) * len(state.tokens) if state.padding is None else state.padding.counts


def split(state: TokenState, groups: Sequence[Sequence[int]]) -> list[TokenState]:
    """The images of a padded batch in groups, each padded to its own longest."""
    parts = []
    for group in groups:
        counts = [counts_of(state)[index] for index in group]
        rows = torch.tensor(group, device=state.tokens.device)
        parts.append(masked_by_count(_images(state, rows, state.grid, max(counts)), counts))
    return parts


def join(parts: Sequence[TokenState], groups: Sequence[Sequence[int]]) -> TokenState:
    """The batch that `split` made groups of, after something has happened to each."""
    counts = {i: n for part, group in zip(parts, groups, strict=True)
              for i, n in zip(group, counts_of(part), strict=True)}  # fmt: skip
    every = tuple(counts[index] for index in range(len(counts)))
    like = replace(parts[0], padding=Padding((parts[0].grid,) * len(every), every))
    whole = _together(like, list(parts), [list(group) for group in groups])
    return masked_by_count(whole, every)


def _images(state: TokenState, rows: Tensor, grid: tuple[int, ...], count: int) -> TokenState:
    """Some images of one grid, without padding."""
    total = state.prefix + count
    return replace(
        state,
        tokens=state.tokens[rows, :total],
        trail=tuple(earlier[rows, :total] for earlier in state.trail),
        side=tuple(each.changed(lambda tokens: tokens[rows, :total]) for each in state.side),
        sizes=state.sizes[rows, :count],
        position=state.position[rows, :count],
        source=state.source[rows, : prod(grid)],
        grid=grid,
        keep=None,
        padding=None,
    )


def _seen_by(attended: Attended, rows: Tensor, total: int) -> Attended:
    """What the attention of some images saw, without padding."""
    bias, weights = attended.bias, attended.weights
    values, key_bias = attended.values, attended.key_bias
    if bias is not None:
        bias = bias.expand(len(attended.queries), -1, -1, -1)[rows, :, :total, :total]
    return replace(
        attended,
        queries=attended.queries[rows, :, :total],
        keys=attended.keys[rows, :, :total],
        plain_keys=attended.plain_keys[rows, :, :total],
        bias=bias,
        keep=None,
        weights=None if weights is None else weights[rows, :, :total, :total],
        values=None if values is None else values[rows, :, :total],
        key_bias=None if key_bias is None else key_bias[rows, :, :, :total],
        source=None,
    )


def _together(state: TokenState, parts: list[TokenState], indices: list[list[int]]) -> TokenState:
    """The images in their old order, each padded to the longest."""
    order = [index for group in indices for index in group]
    back = torch.tensor(order, device=state.tokens.device).argsort()
    moved, patches = any(part.moved for part in parts), state.source.shape[1]
    longest = max(part.count for part in parts) if moved else state.count  # a full grid stays in its places

    def join(pieces: Sequence[Tensor], length: int, fill: float = 0) -> Tensor:
        shape = (0, 0) * (pieces[0].ndim - 2)
        padded = [F.pad(piece, (*shape, 0, length - piece.shape[1]), value=fill) for piece in pieces]
        return torch.cat(padded).index_select(0, back)

    counts = {index: count for part, group in zip(parts, indices, strict=True)
              for index, count in zip(group, counts_of(part), strict=True)}  # fmt: skip
    left = tuple(counts[index] for index in range(len(order)))
    total = parts[0].prefix + longest
    assert state.padding is not None
    return replace(
        state,
        tokens=join([part.tokens for part in parts], total),
        trail=tuple(join(each, total) for each in zip(*(part.trail for part in parts), strict=True)),
        side=tuple(_sides_together(each, join, total) for each in zip(*(p.side for p in parts), strict=True)),
        sizes=join([part.sizes for part in parts], longest, 1),
        position=join([part.position for part in parts], longest),
        source=join([part.source for part in parts], patches, -1),
        keep=_mask(left, longest, state.tokens),
        padding=state.padding._replace(counts=left),
        moved=moved,
    )


def _sides_together(
    parts: Sequence[SideState], join: Callable[[Sequence[Tensor], int], Tensor], total: int
) -> SideState:
    """One side stream of all images; what it gathered was of all of them throughout."""
    tokens = [part.tokens for part in parts if part.tokens is not None]
    return replace(parts[0], tokens=join(tokens, total) if tokens else None)


def _mask(counts: Sequence[int], longest: int, like: Tensor) -> Tensor | None:
    """1 for an image's own tokens, 0 for padding [B, N]; None where there is no padding."""
    if min(counts) == longest:
        return None
    own = torch.tensor(counts, device=like.device)[:, None]
    there = torch.arange(longest, device=like.device) < own
    return there.to(at_least_float32(like.dtype))
