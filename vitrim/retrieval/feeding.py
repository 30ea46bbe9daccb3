"""Pictures and captions of a split in batches, to train on and to measure on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from vitrim.data.images import read_image
from vitrim.data.source import Split
from vitrim.data.tolerance import TolerantImages
from vitrim.data.transforms import eval_transform, train_transform
from vitrim.retrieval.caption_data import Captioned
from vitrim.retrieval.captions import Tokenizer
from vitrim.retrieval.evaluating import Found, Texts, evaluate_retrieval
from vitrim.retrieval.model import RetrievalModel
from vitrim.runs.batches import TrainingBatches, ordered_batches
from vitrim.settings.training import Training


def caption_batches(
    model: RetrievalModel, split: Captioned, training: Training, spec: str
) -> TrainingBatches:
    """Batches of (images, numbers of captions), every caption once an epoch. Of unreadable pictures a
    few are replaced, as in all training here."""
    transform = train_transform(
        model.vision.preprocess, training.augment, training.policy, training.colour_jitter, training.erasing
    )
    names = [split.images[owner] for owner in split.owners]
    images = Split(read_image, names, range(len(names))).with_transform(transform)
    tolerant = TolerantImages(images, spec, training.bad_images, training.seed)
    return TrainingBatches(tolerant, training.batch_size, training.seed, training.workers, training.drop_last)


class Pictures:
    """Batches of a split's pictures in order; may be gone through again."""

    def __init__(
        self, model: RetrievalModel, paths: tuple[str, ...], batch_size: int, workers: int | None
    ) -> None:
        images: Any = Split(read_image, paths, range(len(paths)))
        self.loader = ordered_batches(
            images.with_transform(eval_transform(model.vision.preprocess)), batch_size, workers
        )

    def __iter__(self) -> Iterator[Tensor]:
        return (images for images, _ in self.loader)


def measure(
    model: RetrievalModel,
    tokenizer: Tokenizer,
    split: Captioned,
    training: Training,
    k_test: int = 128,
    beta: float = 0.0,
) -> Found:
    """Recall of a split both ways."""
    pictures = Pictures(model, split.images, training.batch_size, training.workers)
    texts = Texts(*tokenizer(split.captions))
    return evaluate_retrieval(model, pictures, texts, range(len(split.images)), split.owners, k_test, beta)
