"""The steps of LTMP as functions of tensors: who joins whom, who is left, what the rest costs."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.tokens.padded import masked_by_count
from vitrim.tokens.state import Grouping, TokenState, regroup, remember


def decided(before: Tensor, now: Tensor) -> Tensor:
    """The decision `now` on tokens that were there `before`; what was gone stays gone. As in the release, a
    token's gradient reaches only the last decision about it.
    """
    return torch.where(before > 0, now, before)


def block_cost(entering: Tensor, leaving: Tensor, tokens: int, width: int) -> Tensor:
    """Cost of a block by shares of tokens before and after its reduction, in the release's units (2 T D^2 for
    qkv and projection, T^2 D for attention, 4 T D^2 for the MLP).
    """
    present = entering * tokens
    return 2 * present * width**2 + present**2 * width + 4 * leaving * tokens * width**2


def merge_slots(joins: Tensor, partner: Tensor, importance: Tensor, prefix: int) -> tuple[Grouping, Tensor]:
    """The new order A, then B, with the tokens of A that join (1 or 0, [B, A]) averaged into their match; and
    importance in that order.
    """
    batch, count = importance.shape
    cells = torch.arange(count, device=importance.device)
    order = torch.cat([cells[prefix % 2 :: 2], cells[1 - prefix % 2 :: 2]]).expand(batch, -1)  # [B, N]
    size_a = joins.shape[1]
    own = torch.eye(count, dtype=importance.dtype, device=importance.device).expand(batch, -1, -1)
    joined = torch.zeros_like(own[:, :, :size_a]).scatter(1, (partner + size_a)[:, None], joins[:, None])
    member = own + F.pad(joined, (0, count - size_a))  # [B, slot, token in the new order]
    importance = importance.gather(1, order)
    best = importance.scatter_reduce(1, partner + size_a, importance[:, :size_a] * joins, "amax")
    places = cells.expand(batch, -1)
    target = torch.cat(
        [torch.where(joins > 0, partner + size_a, places[:, :size_a]), places[:, size_a:]], dim=1
    )
    back = order.argsort(1)  # place in the new order of every old token
    slots = target.gather(1, back)
    return Grouping(slots, order, member=member.gather(2, back[:, None].expand(-1, count, -1))), best


def remove(state: TokenState, grouping: Grouping, keep: Tensor, most: int | None = None) -> TokenState:
    """Inference: take out the slots with `keep` 0; images of a batch are padded to the longest, behind a
    mask. Without values to count by, `most` are left, if given.
    """
    everything = keep.shape[1]
    assumed = [everything if most is None else min(most, everything)]
    counts = assumed if keep.is_meta else keep.sum(1).long().tolist()
    left = max(counts)
    chosen = (
        (keep == 0).to(torch.uint8).argsort(dim=1, stable=True)[:, :left]
    )  # [B, M], survivors in order, then padding
    there = keep.gather(1, chosen)
    rank = torch.full_like(grouping.slots, -1)
    rank = rank.scatter(1, chosen, torch.where(there > 0, torch.arange(left, device=keep.device), -1))
    slots, lead = rank.gather(1, grouping.slots), grouping.lead.gather(1, chosen)
    member = grouping.member
    if member is not None:
        member = member.gather(1, chosen[..., None].expand(-1, -1, member.shape[2]))
    reduced = regroup(
        state.replaced(keep=None, padding=None, history=None), Grouping(slots, lead, member=member)
    )
    if not keep.is_meta:
        reduced = masked_by_count(reduced, counts)
    return remember(state, reduced.replaced(history=state.history), slots)


def with_one_left(keep: Tensor, importance: Tensor) -> Tensor:
    """Where no patch of an image would stay, the most important one does."""
    best = torch.zeros_like(keep).scatter(1, importance.argmax(1, keepdim=True), 1.0)
    return keep + best * (keep.detach().sum(1, keepdim=True) < 0.5)


def in_place(keep: Tensor) -> Grouping:
    """Every token in its own slot."""
    cells = torch.arange(keep.shape[1], device=keep.device).expand(keep.shape[0], -1)
    return Grouping(cells, cells)
