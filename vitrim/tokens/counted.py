"""The reduction that leaves every image its own number of tokens: of a padded batch, padded again behind a
mask, and of images in one row, in one row again."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitrim.tokens.later import Later
from vitrim.tokens.padded import masked_by_count
from vitrim.tokens.ragged import Ragged, in_one_row, runs, starts
from vitrim.tokens.state import TokenState, at_lead, followed, refuse_older_exporter, remember


@dataclass(frozen=True)
class Kept:
    """What is left of every image.

    Attributes:
        order: [B, N], the old tokens: those that are left first, in their new order.
        counts: how many those are.
        slots: [B, N], the new place of every old token, -1 for dropped.
        fuse: [B, N], weights of the old tokens in the fused one; None where none is fused.
        fused_at: place of the fused token of each image, -1 where it has none.
    """

    order: Tensor
    counts: tuple[int, ...]
    slots: Any
    fuse: Tensor | None
    fused_at: tuple[int, ...]


def keep_counted(state: TokenState, kept: Kept) -> TokenState:
    """Apply it to tokens, trail, sizes, position and source alike, as `regroup` does where all images are
    left with the same number."""
    refuse_older_exporter()
    lead = kept.order[:, : max(kept.counts)]  # [B, M]
    move = _Move(state, kept, lead)
    reduced = state.replaced(
        moved=True,
        tokens=move(state.tokens),
        trail=tuple([move(earlier) for earlier in state.trail]),
        side=tuple([each.changed(move) for each in state.side]),
        sizes=Later(_summed, state.noted("sizes"), kept.slots, lead.shape[1]),
        position=Later(at_lead, state.noted("position"), lead),
        source=Later(followed, state.noted("source"), kept.slots),
        ragged=None if state.ragged is None else Ragged(kept.counts),
    )
    fused_at = None if kept.fuse is None else torch.tensor(kept.fused_at, device=lead.device)
    return remember(state, masked_by_count(reduced, kept.counts), kept.slots, fused_at=fused_at)


class _Move:
    """Makes [B, P+M, C] of [B, P+N, C], or one row of another."""

    def __init__(self, state: TokenState, kept: Kept, lead: Tensor) -> None:
        images, prefix, device = len(lead), state.prefix, lead.device
        self.images, self.prefix, self.fuse, self.ragged = images, prefix, kept.fuse, state.ragged is not None
        if state.ragged is None:
            self.lengths = [state.tokens.shape[1]] * images
            left = [prefix + lead.shape[1]] * images
        else:
            self.lengths = state.ragged.lengths(prefix)
            left = [prefix + count for count in kept.counts]
        first = torch.tensor(starts(self.lengths), device=device)[:, None]
        own = torch.arange(prefix, device=device).expand(images, -1)
        self.rows = in_one_row(torch.cat([own, lead + prefix], dim=1) + first, left).flatten()
        ends = zip(starts(left), kept.fused_at, strict=True)
        self.fused_rows = torch.tensor([start + prefix + at for start, at in ends if at >= 0], device=device)
        self.fusing = [image for image, at in enumerate(kept.fused_at) if at >= 0]

    def __call__(self, tokens: Tensor) -> Tensor:
        flat = tokens.flatten(0, 1)
        moved = flat.index_select(0, self.rows)
        if self.fuse is not None:  # in place: nobody else holds the rows yet
            moved[self.fused_rows] = self._fused(flat, self.fuse)
        return moved[None] if self.ragged else moved.unflatten(0, (self.images, -1))

    def _fused(self, flat: Tensor, fuse: Tensor) -> Tensor:
        """The fused tokens of the images that have one. [K, C]"""
        found, image, row = list[Tensor](), 0, 0
        for images, length in runs(self.lengths):
            patches = flat[row : row + images * length].unflatten(0, (images, length))[:, self.prefix :]
            weights = fuse[image : image + images, None, : length - self.prefix].to(flat.dtype)
            found.append(torch.bmm(weights, patches)[:, 0])
            image, row = image + images, row + images * length
        fused = (found[0] if len(found) == 1 else torch.cat(found)).to(flat.dtype)
        if len(self.fusing) == self.images:
            return fused
        return fused.index_select(0, torch.tensor(self.fusing, device=flat.device))


def _summed(sizes: Tensor, slots: Tensor, longest: int) -> Tensor:
    """How many original patches each slot stands for; padding stands for none. [B, M]"""
    nothing = sizes.new_zeros((len(sizes), longest))
    return nothing.scatter_add(1, slots.clamp(min=0), torch.where(slots < 0, 0, sizes))
