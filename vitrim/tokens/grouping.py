"""How a reduction is written down, and how it moves rows: the arithmetic under `regroup`."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grouping:
    """One reduction: which slot every patch token goes to, and with what weight. Reducers decide it,
    `vitrim.tokens.state.regroup` applies it.

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
        sizes: [B, M], how many original patches each slot stands for.
    """

    def __init__(self, grouping: Grouping, sizes: Tensor, prefix: int) -> None:
        self.prefix = prefix
        self.matrix = self.fuse = self.share = None
        if grouping.member is not None:
            member = grouping.member.to(sizes.dtype)
            self.sizes = (member @ sizes[..., None]).squeeze(-1)
            whole = torch.where(self.sizes == 0, 1, self.sizes)  # padding counts for nothing and stays finite
            self.matrix = member * sizes[:, None] / whole[..., None]  # [B, M, N]
            return
        lead = grouping.lead
        self.sizes = sizes.gather(1, lead)  # [B, M]
        if grouping.fuse is not None:
            self.fuse, lead = grouping.fuse[:, None], lead[:, :-1]
            joined = (sizes * (grouping.slots == lead.shape[1])).sum(1, keepdim=True)
            self.sizes = torch.cat([self.sizes[:, :-1], joined], dim=1)
        rows = [
            torch.arange(-prefix, 0, device=lead.device).expand(lead.shape[0], -1),
            lead,
        ]  # [B, P], [B, M]
        if grouping.join is not None:
            slot, joining = grouping.slots.gather(1, grouping.join), sizes.gather(1, grouping.join)  # [B, R]
            self.sizes = self.sizes.scatter_add(1, slot, joining)
            self.share = (joining / self.sizes.gather(1, slot)).flatten()[:, None]  # [B R, 1]
            self.target = _flat(slot, prefix + lead.shape[1], prefix)
            rows += [grouping.join, lead.gather(1, slot)]
        self.shape = (lead.shape[0], prefix + lead.shape[1])
        numbers = _start(lead, sizes.shape[1] + prefix, prefix) + torch.cat(rows, dim=1)
        self.rows = numbers[:, : self.shape[1]].flatten()
        self.pairs = numbers[:, self.shape[1] :].flatten()

    def __call__(self, tokens: Tensor) -> Tensor:
        """[B, P+N, C] -> [B, P+M, C]"""
        patches = tokens[:, self.prefix :]
        if self.matrix is not None:
            return torch.cat([tokens[:, : self.prefix], self.matrix.to(tokens.dtype) @ patches], dim=1)
        flat = tokens.flatten(0, 1)
        rows = flat.index_select(0, self.rows)
        if self.share is not None:
            joining, leaders = (
                flat.index_select(0, self.pairs).view(self.shape[0], 2, -1, flat.shape[1]).unbind(1)
            )
            change = (joining - leaders).flatten(0, 1) * self.share.to(tokens.dtype)
            rows.index_add_(0, self.target, change)  # in place: nobody else holds them yet
        moved = rows.unflatten(0, self.shape)
        if self.fuse is None:
            return moved
        return torch.cat([moved, (self.fuse.to(tokens.dtype) @ patches).to(tokens.dtype)], dim=1)


def _flat(index: Tensor, count: int, prefix: int = 0) -> Tensor:
    """Row numbers [B, R] of patches within each image as row numbers of the flattened [B count, C]. -> [B
    R]
    """
    return (_start(index, count, prefix) + index).flatten()


def _start(index: Tensor, count: int, prefix: int) -> Tensor:
    """Row number of each image's first patch: [B, 1]"""
    return (torch.arange(index.shape[0], device=index.device) * count + prefix)[:, None]
