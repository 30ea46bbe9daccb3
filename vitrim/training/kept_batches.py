"""Batches of what was kept of images: rows of tensors in their place, in the order training asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vitrim.runs.batches import Batches

Rows = Mapping[str, Tensor]  # [images, ...] each
Batch = tuple[dict[str, Tensor], Tensor]


class KeptImages(Dataset[Batch]):
    """Rows and labels of images. Samplers may name one again as itself plus a multiple of their number."""

    def __init__(self, rows: Rows, labels: Tensor) -> None:
        self.rows, self.labels = rows, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch at once."""
        wanted = torch.tensor(indices, device=self.labels.device) % len(self)
        rows = {name: value.index_select(0, wanted) for name, value in self.rows.items()}
        return rows, self.labels.index_select(0, wanted)


def kept_batches(
    rows: Rows, labels: Tensor, batch_size: int, order: Sampler[int] | None = None, drop_last: bool = False
) -> Batches:
    """The loader of kept images, in order where none is given."""
    images = KeptImages(rows, labels)
    return DataLoader(images, batch_size, sampler=order, drop_last=drop_last, collate_fn=as_it_is)


def as_it_is(batch: Any) -> Any:
    return batch
