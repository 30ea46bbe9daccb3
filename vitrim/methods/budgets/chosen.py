"""The interface of all budgets: scores in, how many tokens each image keeps out, and which."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Chosen(NamedTuple):
    """What images keep.

    Attributes:
        counts: [B], whole numbers, at least 1.
        order: [B, N], all tokens: the `counts` chosen ones first in descending order of score, then the
            others in descending order, padding last.
    """

    counts: Tensor
    order: Tensor


@dataclass(frozen=True)
class Rule:
    """One way to spend tokens by what is in the image.

    Attributes:
        choose: (scores [B, N], level) -> Chosen. Scores are at least 0, padding -1; padding is never chosen
            and changes nothing.
        fewest, most: levels of N tokens at which the fewest and the most are kept.
        whole: whether levels are whole numbers.
        by_values: whether scores are multiplied by the length of the token's value first.
    """

    choose: Callable[[Tensor, float], Chosen]
    fewest: Callable[[int], float]
    most: Callable[[int], float]
    whole: bool = False
    by_values: bool = False


def shares(scores: Tensor) -> Tensor:
    """Scores as shares of all of an image's; padding, and whatever has no score, has none. [B, N]"""
    own = scores.clamp(min=0)
    total = own.sum(1, keepdim=True)
    return torch.where(total > 0, own / torch.where(total > 0, total, 1), own)


def descending(scores: Tensor) -> Tensor:
    """Tokens from the best score to the worst, equals by index. [B, N]"""
    return scores.argsort(dim=1, descending=True, stable=True)


def own_counts(scores: Tensor) -> Tensor:
    """How many tokens of each image are not padding. [B]"""
    return (scores >= 0).sum(1)


def within(chosen: Chosen, scores: Tensor, least: float, most: float) -> Chosen:
    """The same with every image between two shares of its own tokens, rounded up; never fewer than one
    token."""
    own = own_counts(scores)
    low = (least * own).ceil().long().clamp(min=1)
    high = torch.maximum((most * own).ceil().long(), low)
    return chosen._replace(counts=torch.minimum(torch.maximum(chosen.counts, low), high))
