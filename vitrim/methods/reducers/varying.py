"""The reduction that leaves every image as many tokens as were chosen for it, padded behind a mask."""

import torch
from torch import Tensor

from vitrim.methods.budgets.chosen import Chosen
from vitrim.tokens.padded import masked_by_count
from vitrim.tokens.state import Grouping, TokenState, regroup, remember


def keep_chosen(state: TokenState, scores: Tensor, chosen: Chosen, fuse: str) -> TokenState:
    """Every image with the tokens chosen for it in descending order, then the one fused from the others;
    where images are left with different counts, padding behind a mask.

    Args:
        scores: [B, N], -1 for padding.
        fuse: as of EViT. The weights are those of `keep_best` for each image by itself.
    """
    own, kept = (scores >= 0).sum(1), chosen.counts  # [B] each
    gone = kept < own
    if not bool(gone.any()):  # waits for the device
        return state
    left = kept + gone if fuse != "drop" else kept  # [B]
    places = torch.arange(scores.shape[1], device=scores.device)
    order = torch.where(gone[:, None], chosen.order, places)  # whoever keeps all stays as it is
    chosen = Chosen(kept, order)
    bare = state.replaced(keep=None, padding=None, history=None)
    if fuse in ("mean", "sum"):
        reduced, slots = _fused(bare, scores, chosen, fuse)
    else:
        rank = order.argsort(1)  # [B, N], the place of each token in the order
        slots = torch.where(rank < left[:, None], rank, -1)
        reduced = regroup(bare, Grouping(slots, order[:, : int(left.max())]))
    reduced = masked_by_count(reduced.replaced(history=state.history), left.tolist())
    at = torch.where(gone, kept, -1) if fuse in ("mean", "sum") else None
    return remember(state, reduced, slots, fused_at=at)


def _fused(state: TokenState, scores: Tensor, chosen: Chosen, fuse: str) -> tuple[TokenState, Tensor]:
    """Kept tokens, then the fused one, then rubbish up to the longest; and every token's new place.

    In two steps: all that any image keeps and the fused token behind it, then the fused token of each image
    behind its own.
    """
    own, kept, rank = (scores >= 0).sum(1), chosen.counts, chosen.order.argsort(1)
    gone, most = kept < own, int(kept.max())
    others = (rank >= kept[:, None]) & (scores >= 0)  # [B, N]
    weights = scores.clamp(min=torch.finfo(scores.dtype).tiny) * others
    if fuse == "mean":
        total = weights.sum(1, keepdim=True)
        weights = weights / torch.where(total > 0, total, 1)
    last = scores.shape[1] - 1
    leader = chosen.order.gather(1, kept.clamp(max=last)[:, None])  # the best of the others
    first = torch.where(others, most, torch.where(rank < kept[:, None], rank, -1))  # [B, N]
    lead = torch.cat([chosen.order[:, :most], leader], dim=1)
    state = regroup(state, Grouping(first, lead, fuse=weights))  # [B, most + 1]
    columns = torch.arange(most + 1, device=scores.device)
    second = torch.where(columns < kept[:, None], columns, -1)
    second = torch.where(gone[:, None] & (columns == most), kept[:, None], second)  # [B, most + 1]
    longest = int((kept + gone).max())
    places = torch.where(columns == kept[:, None], most, columns)[:, :longest]  # [B, M]
    slots = torch.where(first < 0, -1, second.gather(1, first.clamp(min=0)))
    if bool((kept == most).all()):
        return state, slots  # it is behind its own already
    return regroup(state, Grouping(second, places)), slots
