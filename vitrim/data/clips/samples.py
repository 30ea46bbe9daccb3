"""What loaders get of clips: one random clip of a video for training, all its views for evaluation.

Training samples are [C, T, height, width]. Which frames they are, and how they are changed, follows from the
randomness around them alone (which a run seeds by seed, epoch and number); all frames of a clip are changed
alike. Evaluation samples are [V, C, T, height, width], the same each time: V is temporal views x crops, the
crops of the first view first. In evaluation a clip that cannot be read is an error, unless whoever measures
counts them: then it is a black clip, and marked, so that it counts as wrong.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vitrim.data.clips.indices import frame_indices
from vitrim.data.images import ImageError
from vitrim.data.randomness import own_randomness

if TYPE_CHECKING:
    from vitrim.data.clips.reader import ClipReader
    from vitrim.data.clips.transforms import ClipViews
    from vitrim.data.source import Split


class TrainingClips(Dataset[tuple[Any, int]]):
    """`[i]` is (tensor [C, T, height, width], label) anew each time; a tuple of tensors where the transform
    gives several changes of an image.
    """

    def __init__(
        self,
        reader: ClipReader,
        split: Split,
        transform: Callable[[Image.Image], Any],
        at_least: int | None,
    ) -> None:
        self.reader = reader
        self.split = split
        self.transform = transform
        self.at_least = at_least

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        seed = random.getrandbits(32)
        sampling = self.reader.sampling

        def chosen(count: int) -> Sequence[int]:
            return frame_indices(count, sampling.frames, sampling.stride, "train", rng=random.Random(seed))

        frames = self.reader.frames(self.split.names[index], chosen, self.at_least)
        changed = []
        for frame in frames:
            with own_randomness(seed):
                changed.append(self.transform(frame))
        return _stacked(changed), self.split.labels[index]


def _stacked(frames: Sequence[Any]) -> Any:
    """Frames as one clip; of pairs of frames a pair of clips."""
    if isinstance(frames[0], tuple):
        return tuple(_stacked(parts) for parts in zip(*frames, strict=True))
    return torch.stack(list(frames), 1)  # [C, T, height, width]


class EvaluatedClips(Dataset[tuple[Tensor, int]]):
    """`[i]` is (tensor [V, C, T, height, width], label)."""

    def __init__(self, reader: ClipReader, split: Split, views: ClipViews) -> None:
        self.reader = reader
        self.split = split
        self.views = views
        self.unread: Tensor | None = None

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        try:
            clip = self.views.read(self.reader, self.split.names[index])
        except ImageError:
            if self.unread is None:
                raise
            self.unread[index] = True
            clip = self.views.black(self.reader.sampling)
        return clip, self.split.labels[index]

    def count_unread(self) -> None:
        """From now on mark clips that cannot be read, where reading processes see it too."""
        self.unread = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    def stop_counting(self) -> None:
        self.unread = None


ClipSamples: TypeAlias = TrainingClips | EvaluatedClips


def clip_samples(reader: ClipReader, split: Split, transform: Callable[[Image.Image], Any]) -> ClipSamples:
    """Evaluation where the transform is one of evaluation for images, training with any other."""
    from vitrim.data.clips.transforms import ClipTransform, ClipViews
    from vitrim.data.transforms import ImageTransform

    if isinstance(transform, ImageTransform):
        return EvaluatedClips(reader, split, ClipViews.of(transform))
    at_least = transform.at_least if isinstance(transform, ClipTransform) else None
    return TrainingClips(reader, split, transform, at_least)
