"""Batches whose content depends on the seed and the epoch alone.

The order of an epoch and the random changes of every image are drawn anew from (seed, epoch, image). So a
resumed run sees what the uninterrupted one would have seen, and the number of reading processes changes
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, cast

import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vitrim.data import DataSource
from vitrim.data.clips.transforms import ClipTransform, clip_transform
from vitrim.data.images import ImageError
from vitrim.data.randomness import own_randomness as own_randomness
from vitrim.data.splitting import by_class
from vitrim.data.tolerance import TolerantImages, too_many
from vitrim.data.transforms import ImageTransform, eval_transform, train_transform
from vitrim.measuring.machine import cpu_count
from vitrim.methods.selection.contrastive import TwoViews
from vitrim.network.model import StagedViT
from vitrim.settings.training import Training

if TYPE_CHECKING:
    from accelerate import Accelerator

Batches = DataLoader[Any]  # of (images [B, C, height, width], labels [B])


def mixed_seed(*numbers: int) -> int:
    """One 32-bit seed from several numbers; unlike their sum, neighbours give unrelated randomness."""
    return int(numpy.random.SeedSequence(numbers).generate_state(1)[0])


class EpochOrder(Sampler[int]):
    """All indices, shuffled by (seed, epoch)."""

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch))
        return iter(torch.randperm(self.count, generator=generator).tolist())


class BalancedOrder(EpochOrder):
    """Indices of every group equally often (but for one), by (seed, epoch). An index comes again as itself
    plus a multiple of the number of images, so that it is changed at random anew.
    """

    def __init__(self, groups: Sequence[Sequence[int]], count: int, seed: int) -> None:
        super().__init__(count, seed)
        self.groups = [torch.tensor(group) for group in groups]

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch))
        share, rest = divmod(self.count, len(self.groups))
        favoured = set(torch.randperm(len(self.groups), generator=generator)[:rest].tolist())
        found = []
        for place, group in enumerate(self.groups):
            wanted = share + (place in favoured)
            for again in range(math.ceil(wanted / len(group))):
                order = group[torch.randperm(len(group), generator=generator)]
                found.append(order[: wanted - again * len(group)] + again * self.count)
        indices = torch.cat(found)  # [count]
        return iter(indices[torch.randperm(self.count, generator=generator)].tolist())


class RepeatableImages(Dataset[tuple[Tensor, int]]):
    """Each image transformed under randomness of its own, drawn from (seed, epoch, index)."""

    def __init__(self, images: Dataset[tuple[Tensor, int]], seed: int) -> None:
        self.images = images
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(cast(Sized, self.images))

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with own_randomness(mixed_seed(self.seed, self.epoch, index)):
            return self.images[index % len(self)]


@contextmanager
def readers_end_with_errors() -> Iterator[None]:
    """End the processes that read where an error of an image passes by.

    The error that torch raises and the frames it passed hold one another, and with them these processes: when
    Python next looked for garbage, in the middle of something else, it would wait five seconds for each.
    """
    try:
        yield
    except ImageError as error:
        clear_frames(error.__traceback__)
        raise


class TrainingBatches:
    """The loader of the training images; `start(epoch)` decides order and augmentation."""

    def __init__(
        self,
        images: Dataset[tuple[Tensor, int]],
        batch_size: int,
        seed: int,
        workers: int | None,
        drop_last: bool,
        groups: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.tolerant = images if isinstance(images, TolerantImages) else None
        self.images = RepeatableImages(images, seed)
        count = len(self.images)
        self.order = EpochOrder(count, seed) if groups is None else BalancedOrder(groups, count, seed)
        if drop_last and len(self.images) < batch_size:
            raise ValueError(
                f"{len(self.images)} training images do not fill one batch of {batch_size}; lower batch_size "
                f"to at most {len(self.images)} (--batch_size {max(1, len(self.images) // 4)}, say) or set "
                "drop_last=false"
            )
        self.loader: Batches = DataLoader(
            self.images,
            batch_size=batch_size,
            sampler=self.order,
            drop_last=drop_last,
            num_workers=reading_processes(workers),
            pin_memory=torch.cuda.is_available(),
        )

    def start(self, epoch: int) -> None:
        self.images.epoch = epoch
        self.order.epoch = epoch
        if self.tolerant is not None:
            self.tolerant.forget()

    def replaced(self, accelerator: Accelerator) -> list[str]:
        """The unreadable images of the epoch that just ended, met by any process."""
        from accelerate.utils import gather_object

        if self.tolerant is None:
            return []
        names = sorted(set(gather_object(self.tolerant.bad_names())))
        if len(names) > self.tolerant.limit:
            raise ImageError(too_many(names, self.tolerant.limit, self.tolerant.spec))
        return names


def ordered_batches(
    images: Dataset[tuple[Tensor, int]],
    batch_size: int,
    workers: int | None,
    collate: Callable[..., Any] | None = None,
) -> Batches:
    """The loader of images to measure on: in order, all of them."""
    return DataLoader(
        images,
        batch_size=batch_size,
        collate_fn=collate,
        num_workers=reading_processes(workers),
        pin_memory=torch.cuda.is_available(),
    )


def reading_processes(workers: int | None) -> int:
    """Processes that read images. On a small CPU machine they would only compete with the model for the
    cores.
    """
    if workers is not None:
        if workers < 0:
            raise ValueError(f"workers must be a whole number of at least 0, got {workers}")
        return workers
    return min(8, cpu_count()) if torch.cuda.is_available() or cpu_count() > 4 else 0


def training_batches(model: StagedViT, source: DataSource, training: Training) -> TrainingBatches:
    """The training images of a data source, as a model and the settings want them."""
    images = tolerant_images(source, training, augmented(model, training, source))
    groups = None
    if training.sampler == "balanced":
        groups = list(by_class(source.split(training.train_split)).values())
    return TrainingBatches(
        images, training.batch_size, training.seed, training.workers, training.drop_last, groups
    )


def scoring_batches(model: StagedViT, source: DataSource, training: Training, two_views: bool) -> Batches:
    """The training images once, all of them and under randomness of their own, for methods that choose by
    data; with `two_views`, each as a pair of random views.
    """
    transform: Any = TwoViews(model.preprocess) if two_views else augmented(model, training, source)
    images = tolerant_images(source, training, transform)
    batches = TrainingBatches(images, training.batch_size, training.seed, training.workers, drop_last=False)
    return batches.loader


def augmented(model: StagedViT, training: Training, source: DataSource) -> ImageTransform | ClipTransform:
    """The random changes that the settings ask for, or clips that have theirs in the data spec."""
    changes = training.policy, training.colour_jitter, training.erasing
    if source.clips is None:
        return train_transform(model.preprocess, training.augment, *changes)
    augment = source.clips.augment
    if augment == "run":
        return clip_transform(model.preprocess, training.augment, *changes)
    if training.augment != "none":
        raise ValueError(
            f"the data say augment={augment} and the settings augment={training.augment}; leave the setting "
            "out, or write augment=run into the data spec"
        )
    return clip_transform(model.preprocess, augment, *changes)


def tolerant_images(source: DataSource, training: Training, transform: Any) -> TolerantImages:
    """The training images, of which a few may be unreadable."""
    images = source.split(training.train_split).with_transform(transform)
    return TolerantImages(images, source.spec, training.bad_images, training.seed)


def validation_batches(model: StagedViT, source: DataSource, training: Training) -> Batches | None:
    """The images to validate on after every epoch; None where there are none, or where they are trained
    on.
    """
    if "val" not in source.splits or training.train_split != "train":
        return None
    images = source.split("val").with_transform(eval_transform(model.preprocess))
    return ordered_batches(images, training.batch_size, training.workers)
