"""How a reduction is written down, and how it moves rows: the arithmetic under `vitrim.state.regroup`."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grouping:
    """One reduction: which slot every patch token goes to, and with what weight. Reducers decide it,
    `vitrim.state.regroup` applies it.

    `slots` says it all; the other fields say the same in the form that is cheap to compute: every slot is led
    by one old token, and the tokens without a slot of their own are joined to a leader's slot (merging) or
    fused into one last slot (EViT).

    Attributes:
        slots: [B, N], the new place 0..M-1 of every old patch token, -1 for dropped.
        lead: [B, M], the old token whose place in the grid a slot keeps.
        join: [B, R], old tokens that are averaged into the slot `slots` gives them, weighted by size; None
            where none are.
        fuse: [B, N], weights of the old tokens in the last slot, zero for all that are elsewhere; None where
            nothing is fused. Not together with `join`.
        member: [B, M, N], membership as a differentiable 0/1 matrix, used instead of the indices while a
            matching learns.
    """

    slots: Tensor
    lead: Tensor
    join: Tensor | None = None
    fuse: Tensor | None = None
    member: Tensor | None = None


def take_rows(tokens: Tensor, index: Tensor) -> Tensor:
    """Rows `index` [B, M] of `tokens` [B, N, D] -> [B, M, D]; ten times faster than gather with an index
    expanded over D."""
    flat = tokens.flatten(0, 1).index_select(0, _flat(index, tokens.shape[1]))
    return flat.unflatten(0, index.shape)


def new_sizes(sizes: Tensor, grouping: Grouping) -> Tensor:
    """How many original patches each slot stands for: [B, N] -> [B, M]"""
    if grouping.member is not None:
        return (grouping.member.to(sizes.dtype) @ sizes[..., None]).squeeze(-1)
    own = sizes.gather(1, grouping.lead)  # [B, M]
    if grouping.join is not None:
        own = own.scatter_add(1, grouping.slots.gather(1, grouping.join), sizes.gather(1, grouping.join))
    if grouping.fuse is not None:
        last = grouping.lead.shape[1] - 1
        own = torch.cat([own[:, :last], (sizes * (grouping.slots == last)).sum(1, keepdim=True)], dim=1)
    return own


class Mover:
    """One grouping made ready to apply to tokens and trail alike: row numbers are worked out once.

    Rows j that join the slot of leader e change it by x_e += sum of (size_j / size') (x_j - x_e): the mean
    weighted by size, without touching rows that nothing joins.
    """

    def __init__(self, grouping: Grouping, sizes: Tensor, after: Tensor, prefix: int) -> None:
        self.prefix = prefix
        self.matrix = self.fuse = self.share = None
        if grouping.member is not None:
            self.matrix = grouping.member.to(sizes.dtype) * sizes[:, None] / after[..., None]  # [B, M, N]
            return
        old, lead = sizes.shape[1] + prefix, grouping.lead
        if grouping.fuse is not None:
            self.fuse, lead = grouping.fuse[:, None], lead[:, :-1]
        head = torch.arange(prefix, device=lead.device).expand(lead.shape[0], -1)  # [B, P]
        rows = torch.cat([head, lead + prefix], dim=1)  # [B, P+M]
        self.shape, self.rows = rows.shape, _flat(rows, old)
        if grouping.join is not None:
            slot = grouping.slots.gather(1, grouping.join)  # [B, R]
            self.joining = _flat(grouping.join + prefix, old)
            self.leaders = _flat(lead.gather(1, slot) + prefix, old)
            self.target = _flat(slot + prefix, rows.shape[1])
            self.share = (sizes.gather(1, grouping.join) / after.gather(1, slot)).view(-1, 1)  # [B R, 1]

    def __call__(self, tokens: Tensor) -> Tensor:
        """[B, P+N, C] -> [B, P+M, C]"""
        patches = tokens[:, self.prefix :]
        if self.matrix is not None:
            return torch.cat([tokens[:, : self.prefix], self.matrix.to(tokens.dtype) @ patches], dim=1)
        flat = tokens.flatten(0, 1)
        rows = flat.index_select(0, self.rows)
        if self.share is not None:
            change = flat.index_select(0, self.joining) - flat.index_select(0, self.leaders)
            rows.index_add_(0, self.target, change * self.share.to(tokens.dtype))  # rows are nobody else's
        moved = rows.unflatten(0, self.shape)
        if self.fuse is None:
            return moved
        return torch.cat([moved, (self.fuse.to(tokens.dtype) @ patches).to(tokens.dtype)], dim=1)


def _flat(index: Tensor, count: int) -> Tensor:
    """Row numbers [B, R] within each image as row numbers of the flattened [B count, C]. -> [B R]"""
    start = torch.arange(index.shape[0], device=index.device) * count
    return (index + start[:, None]).flatten()
