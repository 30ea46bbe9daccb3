"""The queue of earlier keys that momentum contrast compares with (MoCo, arXiv 1911.05722)."""

import torch
from torch import Tensor, nn

from vitrim.checks import check_positive

NOBODY = -100  # the id of a place that was never filled


class FeatureQueue(nn.Module):
    """A ring of `length` image features, text features and image ids; places that were never filled are not
    keys. Its buffers are part of a checkpoint."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        check_positive("RetrievalModel", "queue", length)
        self.length = length
        self.images = nn.Buffer(torch.zeros(length, width))
        self.texts = nn.Buffer(torch.zeros(length, width))
        self.ids = nn.Buffer(torch.full((length,), NOBODY))
        self.next = nn.Buffer(torch.zeros((), dtype=torch.long))

    def filled(self) -> tuple[Tensor, Tensor, Tensor]:
        """Image features, text features and ids of the places that are filled: [K, C], [K, C], [K]"""
        known = int((self.ids != NOBODY).sum())  # they fill from the front
        return self.images[:known], self.texts[:known], self.ids[:known]

    @torch.no_grad()
    def push(self, images: Tensor, texts: Tensor, ids: Tensor) -> None:
        """Take the place of the oldest entries; a batch may run over the end and goes on at the start."""
        if len(ids) > self.length:
            raise ValueError(
                f"the queue holds {self.length} pairs but a batch has {len(ids)}; give a queue of at least "
                "the batch size"
            )
        places = (self.next + torch.arange(len(ids), device=self.ids.device)) % self.length
        self.images[places] = images.to(self.images.dtype)
        self.texts[places] = texts.to(self.texts.dtype)
        self.ids[places] = ids
        self.next.copy_((self.next + len(ids)) % self.length)
