"""Training goes on where single images cannot be read: another image takes the place, and it is counted.

Which one takes the place depends on the seed and the index alone, so a run can be repeated and resumed. Past
the limit training stops. In evaluation nothing is ever replaced.
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitrim.data.clips.samples import ClipSamples
from vitrim.data.images import ImageError
from vitrim.data.source import TransformedSplit

SHOWN = 3  # names in a sentence


class TolerantImages(Dataset[tuple[Tensor, int]]):
    """Transformed images, of which up to `limit` may be unreadable; `bad_names` says which were met."""

    def __init__(self, images: TransformedSplit | ClipSamples, spec: str, limit: int, seed: int) -> None:
        self.images = images
        self.spec = spec
        self.limit = limit
        self.seed = seed
        # In shared memory, because the processes of a loader find what the main process reports.
        self.bad = torch.zeros(len(images), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        place, attempt = index, 0
        while True:
            try:
                return self.images[place]
            except ImageError as error:
                self._count(place, error)
            attempt += 1
            place = random.Random(f"{self.seed}/{index}/{attempt}").randrange(len(self.images))

    def _count(self, place: int, error: ImageError) -> None:
        self.bad[place] = True
        names = self.bad_names()
        if len(names) > self.limit or len(names) == len(self.images):
            raise ImageError(too_many(names, self.limit, self.spec)) from error

    def bad_names(self) -> list[str]:
        """The images that could not be read since the last `forget`."""
        return [self.images.split.names[place] for place in self.bad.nonzero().flatten().tolist()]

    def forget(self) -> None:
        self.bad.zero_()


def too_many(names: Sequence[str], limit: int, spec: str) -> str:
    """The sentence that ends a training run."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (
        f"training images that cannot be read: {', '.join(names[:SHOWN])}{more}, where bad_images allows "
        f"{limit}; vitrim data '{spec}' --check lists all of them with what is wrong"
    )


def replaced(names: Sequence[str]) -> str:
    """What the line of an epoch in the training log says."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} unreadable replaced ({', '.join(names[:SHOWN])}{more})"
