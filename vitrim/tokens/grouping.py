"""How a reduction is written down, and how it moves rows: the arithmetic under `regroup`."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.tokens.later import Later, Worked, known


@dataclass(frozen=True)
class Grouping:
    """One reduction: which slot every patch token goes to, and with what weight. Reducers decide it,
    `vitrim.tokens.state.regroup` applies it.

    `slots` says it all; the other fields say the same in the form that is cheap to compute: every slot is led
    by one old token, and the tokens without a slot of their own are joined to a leader's slot (merging) or
    fused into one last slot (EViT).

    Attributes:
        slots: [B, N], the new place 0..M-1 of every old patch token, -1 for dropped; or a `Later`, because
            most of the time nobody reads it.
        lead: [B, M], the old token whose place in the grid a slot keeps.
        join: [B, R], old tokens that are averaged into the slot `slots` gives them, weighted by size; None
            where none are.
        fuse: [B, N], weights of the old tokens in the last slot, zero for all that are elsewhere; None where
            nothing is fused. Not together with `join`.
        member: [B, M, N], membership as a differentiable 0/1 matrix, used instead of the indices while a
            matching learns.
        target: [B, R], the slot of each of `join` where that is known already; else it is read off `slots`.
    """

    slots: Worked = Worked()  # without a default
    lead: Tensor  # type: ignore[misc]
    join: Tensor | None = None
    fuse: Tensor | None = None
    member: Tensor | None = None
    target: Tensor | None = None

    def noted_slots(self) -> Any:
        """`slots` as they were put in: a tensor, or how to work it out."""
        return self.__dict__["slots"]


def take_rows(tokens: Tensor, index: Tensor) -> Tensor:
    """Rows `index` [B, M] of `tokens` [B, N, D] -> [B, M, D]; ten times faster than gather with an index
    expanded over D."""
    flat = tokens.flatten(0, 1).index_select(0, _rows(index, tokens.shape[1]).flatten())
    return flat.unflatten(0, index.shape)


def with_membership(grouping: Grouping) -> Grouping:
    """The same reduction with its membership written out as a matrix of zeros and ones, where it has none."""
    if grouping.member is not None:
        return grouping
    places = torch.arange(grouping.lead.shape[1], device=grouping.lead.device)[:, None]
    return replace(grouping, member=grouping.slots[:, None] == places)  # [B, M, N]


class Mover:
    """One grouping made ready to apply to tokens and trail alike: sizes and row numbers are worked out once.

    Rows j that join the slot of leader e change it by x_e += sum of (size_j / size') (x_j - x_e): the mean
    weighted by size, without touching rows that nothing joins.

    Attributes:
        sizes: [B, M], how many original patches each slot stands for, or how to work it out.
    """

    def __init__(self, grouping: Grouping, sizes: Any, total: int, prefix: int) -> None:
        self.prefix = prefix
        self.matrix: Tensor | None = None
        self.fuse: Tensor | None = None
        self.share: Tensor | None = None
        self.sizes: Any
        lead = grouping.lead
        if grouping.member is not None:
            self._multiply(grouping.member, known(sizes))
            return
        images = _images(lead)
        start = _start(images, total, prefix)
        if grouping.join is not None:
            sizes, join = known(sizes), grouping.join
            slot = grouping.slots.gather(1, join) if grouping.target is None else grouping.target  # [B, R]
            joining = sizes.gather(1, join)
            self.sizes = sizes.gather(1, lead).scatter_add(1, slot, joining)  # [B, M]
            self.share = (joining / self.sizes.gather(1, slot)).view(-1, 1)  # [B R, 1]
            self.target = _rows(slot, prefix + lead.shape[1], prefix, images).flatten()
            self.joining = _behind(start, join).flatten()
        elif grouping.fuse is not None:
            self.fuse = grouping.fuse[:, None]
            self.sizes = Later(_fused_sizes, sizes, grouping.noted_slots(), lead)
            lead = lead[:, :-1]
        else:
            self.sizes = Later(_sizes_at, sizes, lead)
        self.shape = (lead.shape[0], prefix + lead.shape[1])
        self.rows = _behind(start, _with_prefix(lead, prefix)).flatten()

    def _multiply(self, member: Tensor, sizes: Tensor) -> None:
        member = member.to(sizes.dtype)
        self.sizes = (member @ sizes[..., None]).squeeze(-1)
        whole = torch.where(self.sizes == 0, 1, self.sizes)  # padding counts for nothing and stays finite
        self.matrix = member * sizes[:, None] / whole[..., None]  # [B, M, N]

    def __call__(self, tokens: Tensor) -> Tensor:
        """[B, P+N, C] -> [B, P+M, C]"""
        if self.matrix is not None:
            patches = tokens[:, self.prefix :]
            return torch.cat([tokens[:, : self.prefix], self.matrix.to(tokens.dtype) @ patches], dim=1)
        flat = tokens.flatten(0, 1)
        rows = flat.index_select(0, self.rows)
        if self.share is not None:  # in place: nobody else holds the rows yet
            change = flat.index_select(0, self.joining) - rows.index_select(0, self.target)
            rows.index_add_(0, self.target, change * self.share.to(tokens.dtype))
        moved = rows.unflatten(0, self.shape)
        if self.fuse is None:
            return moved
        patches = tokens[:, self.prefix :]
        fused = torch.bmm(self.fuse.to(tokens.dtype), patches)  # [B, 1, C]
        return torch.cat([moved, fused.to(tokens.dtype)], dim=1)


def _sizes_at(sizes: Tensor, lead: Tensor) -> Tensor:
    return sizes.gather(1, lead)  # [B, M]


def _fused_sizes(sizes: Tensor, slots: Tensor, lead: Tensor) -> Tensor:
    """As above, with everything else in the last slot. [B, M]"""
    fused = (sizes * (slots == lead.shape[1] - 1)).sum(1, keepdim=True)
    return torch.cat([sizes.gather(1, lead[:, :-1]), fused], dim=1)


def _with_prefix(index: Tensor, prefix: int) -> Tensor:
    """Places of the prefix, which are before the first patch, and of patches `index` [B, M]. -> [B, P+M]"""
    if prefix > 1:
        before = torch.arange(-prefix, 0, device=index.device).expand(index.shape[0], -1)
        return torch.cat([before, index], dim=1)
    return F.pad(index, (prefix, 0), value=-1)


def _rows(index: Tensor, count: int, prefix: int = 0, images: Tensor | None = None) -> Tensor:
    """Row numbers [B, R] of patches within each image as row numbers of the flattened [B count, C]; `images`
    as of them, where they are known."""
    return _behind(_start(_images(index) if images is None else images, count, prefix), index)


def _images(index: Tensor) -> Tensor | None:
    """Numbers of the images of `index` [B, R], [B, 1]; None of a single one, whose rows are the patches'."""
    if index.shape[0] == 1 and not torch.jit.is_tracing():  # which would fix the number of images
        return None
    return torch.arange(index.shape[0], device=index.device)[:, None]


def _start(images: Tensor | None, count: int, prefix: int) -> Tensor | int:
    """Row number of each image's first patch: [B, 1], or the one number of a single image."""
    if images is None:
        return prefix
    return images * count + prefix if prefix else images * count


def _behind(start: Tensor | int, index: Tensor) -> Tensor:
    return index if isinstance(start, int) and start == 0 else start + index
