"""Images of different counts one after the other in one row, without padding: layers that act on every token
by itself then compute no padding, and their products are as large as those of a batch."""

from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Ragged(NamedTuple):
    """Of images in one row: how many patch tokens each has."""

    counts: tuple[int, ...]

    def lengths(self, prefix: int) -> list[int]:
        """How many tokens each has, the prefix among them."""
        return [prefix + count for count in self.counts]


def in_one_row(padded: Tensor, lengths: Sequence[int]) -> Tensor:
    """The first `lengths` of each image, one after the other: [B, T, ...] -> [1, S, ...]; a view where
    nothing is left out."""
    if min(lengths) == padded.shape[1]:
        return padded.flatten(0, 1)[None]
    own = [image[:length] for image, length in zip(padded.unbind(), lengths, strict=True)]
    return torch.cat(own)[None]


def in_rows(row: Tensor, lengths: Sequence[int]) -> Tensor:
    """Each image by itself, behind it zeros up to the longest: [1, S, ...] -> [B, T, ...]; a view where none
    is longer than another."""
    if min(lengths) == max(lengths):
        return row[0].unflatten(0, (len(lengths), -1))
    return pad_sequence(list(row[0].split(list(lengths))), batch_first=True)


def leading(row: Tensor, lengths: Sequence[int], rows: int) -> Tensor:
    """The first `rows` of each image: [1, S, ...] -> [B, rows, ...]"""
    places = [start + place for start in starts(lengths) for place in range(rows)]
    return row[0].index_select(0, torch.tensor(places, device=row.device)).unflatten(0, (len(lengths), rows))


def starts(lengths: Sequence[int]) -> list[int]:
    """Where each image begins."""
    return list(accumulate(lengths[:-1], initial=0))


def runs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours of the same length, as (how many, length), in order.

    >>> runs([5, 5, 3, 5])
    [(2, 5), (1, 3), (1, 5)]
    """
    return [(sum(1 for _ in alike), length) for length, alike in groupby(lengths)]


def by_runs(row: Tensor, of: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The images of each run as a batch of their own, without copying: [1, H, S, d] -> [images, H, T, d]
    each."""
    pieces = row[0].split([images * length for images, length in of], dim=1)  # [H, rows, d] each
    return [piece.unflatten(1, run).transpose(0, 1) for piece, run in zip(pieces, of, strict=True)]


def from_runs(parts: Sequence[Tensor]) -> Tensor:
    """What `by_runs` gave, in one row again: [images, H, T, d] each -> [1, H, S, d], its heads side by side
    in memory."""
    return torch.cat([part.transpose(1, 2).flatten(0, 1) for part in parts])[None].transpose(1, 2)
