"""Which tokens merge with which: soft matching of one part of the tokens against the other, as functions of
tensors.

Written from the papers: ToMe (arXiv 2210.09461, section 3) and FPET (section 4). Patch tokens only: prefix
tokens are neither scored nor matched. Keys come in float32 or better and autocast is off, so nothing is lost
to rounding.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from vitrim.tokens.later import Later
from vitrim.tokens.state import Grouping, take_rows


def unit(keys: Tensor) -> Tensor:
    """Rows of length one, so that their products are cosines; a zero row stays zero."""
    return keys / keys.norm(dim=-1, keepdim=True).clamp(min=1e-12)  # as F.normalize, in three operators


def merge_most_similar(keys: Tensor, prefix: int, merge: int) -> Grouping:
    """ToMe's step: the `merge` patches of set A that are most similar to a patch of set B join it.

    A holds the tokens at even places of the whole sequence, prefix included, B those at odd places. The new
    order is the rest of A as it stood, then B as it stood: the next block's split depends on it. keys: [B,
    N, d]; `merge` is at most N // 2, which both sets hold.
    """
    first = prefix % 2  # place among the patches of the first one in A
    scores = torch.bmm(keys[:, first::2], keys[:, 1 - first :: 2].transpose(-2, -1))
    best, partner = scores.max(-1)  # [B, A]
    order = best.argsort(-1, descending=True)
    places = order * 2 + first if first else order * 2
    rest = places[:, merge:].sort(-1).values  # [B, A-R]
    odd = torch.arange(1 - first, keys.shape[1], 2, device=keys.device).expand(keys.shape[0], -1)
    target = partner.gather(1, order[:, :merge]) + rest.shape[1]  # [B, R]
    return joined(torch.cat([rest, odd], dim=1), places[:, :merge], target)


def checkerboard(position: Tensor, grid: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Sets A and B by the colour of the cell each token sits on: indices [B, ceil(N/2)] and [B, floor(N/2)].

    A is (even row, even column), then (odd, odd); B is (odd, even), then (even, odd); each in raster order.
    With frames the colour is the parity of frame + row + column. On a full grid A is one colour and B the
    other. Where tokens were selected by content, the colours' counts depend on the image, but shapes must
    not: the first ceil(N/2) tokens in this order are A, so only the surplus of one colour, at its end,
    counts as the other.
    """
    rows, columns = grid[-2:]
    row, column = position // columns % rows, position % columns
    colour = (position // (rows * columns) + row + column) % 2
    order = ((colour * 2 + column % 2) * math.prod(grid) + position).argsort(1)  # [B, N]
    half = (position.shape[1] + 1) // 2
    return order[:, :half], order[:, half:]


def alternate(position: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    """Sets A and B by turns, as ToMe has them: floor(N/2) patches at even places of the sequence, and all
    others."""
    places = torch.arange(position.shape[1], device=position.device)
    half = position.shape[1] // 2
    even, odd = places[prefix % 2 :: 2], places[1 - prefix % 2 :: 2]
    rest = torch.cat([even[half:], odd])  # with an odd number of patches one may be left over
    return even[:half].expand(position.shape[0], -1), rest.expand(position.shape[0], -1)


def similarity(keys: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Products of the keys of set A with those of set B: [B, N, d] -> [B, A, B']"""
    return take_rows(keys, a) @ take_rows(keys, b).transpose(-2, -1)


def merge_all(scores: Tensor, a: Tensor, b: Tensor) -> Grouping:
    """Every token of A joins its best match in B (the first of equals); the new order is B's. scores: [B, A,
    B']"""
    return joined(b, a, scores.argmax(-1))


def merge_all_softly(scores: Tensor, a: Tensor, b: Tensor) -> Grouping:
    """The same merge with membership as a matrix that passes gradients to the scores (FPET eq. 12-14).

        t_i = mean of the two largest S_i,    C' = sigmoid(S - t),    member = C' + sg(C - C')

    with C the hard assignment. The release takes C = [C' > 0.5], which is the arg-max unless the two largest
    lie so close that the sigmoid rounds to 0.5; then it loses the token. Here C is the arg-max itself.
    """
    grouping = merge_all(scores, a, b)
    threshold = scores.topk(2, dim=-1).values.mean(-1, keepdim=True)  # [B, A, 1]
    soft = (scores - threshold).sigmoid()
    assert grouping.target is not None  # `joined` knows it
    hard = torch.zeros_like(soft).scatter(-1, grouping.target[..., None], 1.0)
    match = straight_through(hard, soft)  # [B, A, B']
    own = torch.eye(b.shape[1], dtype=match.dtype, device=match.device).expand(b.shape[0], -1, -1)
    ordered = torch.cat(
        [match.transpose(1, 2), own], dim=2
    )  # [B, B', A+B'], columns in the order of A, then B
    columns = torch.cat([a, b], dim=1).argsort(1)[:, None].expand(-1, b.shape[1], -1)
    return replace(grouping, member=ordered.gather(2, columns))


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard`, exactly, with the gradient of `soft`."""
    return hard + (soft - soft.detach())


def joined(lead: Tensor, join: Tensor, target: Tensor) -> Grouping:
    """The reduction in which tokens `lead` [B, M] keep a slot each, in that order, and `join` [B, R] enter
    slot `target`."""
    return Grouping(Later(_slots_joined, lead, join, target), lead, join, target=target)


def _slots_joined(lead: Tensor, join: Tensor, target: Tensor) -> Tensor:
    """The new place of every old token. [B, N]"""
    places = torch.arange(lead.shape[1], device=lead.device).expand_as(lead)
    slots = torch.cat([places, target], dim=1)
    return torch.empty_like(slots).scatter(1, torch.cat([lead, join], dim=1), slots)
