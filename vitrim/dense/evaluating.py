"""What a dense model says of whole pictures, each at its own size, and how good that is.

    slide   resized in its own proportions until it covers the model's window, which slides over it by two
            thirds of its sides
    whole   resized to the model's size, whatever its proportions

Logits are then made as large as the picture, so that masks are compared as they are on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import functional as pixels

from vitrim.checks import check_one_of
from vitrim.data.transforms import INTERPOLATIONS
from vitrim.dense.classes import IGNORE
from vitrim.dense.heads import resized
from vitrim.dense.metrics import Scores, SegmentationMetrics
from vitrim.dense.model import DenseModel
from vitrim.dense.source import DenseSplit
from vitrim.dense.tiling import slide
from vitrim.dense.transforms import covering, normalised

Autocast = Callable[[], AbstractContextManager[object]]


@torch.no_grad()
def picture_logits(
    model: DenseModel, image: Image.Image, inference: str | None = None, batch_size: int = 16
) -> Tensor:
    """Logits of every pixel of a picture: [K, height, width], on the CPU."""
    inference = model.inference if inference is None else inference
    check_one_of("segmentation", "inference", inference, ("slide", "whole"))
    window = model.image_size
    size = (image.height, image.width)
    asked = window if inference == "whole" else covering(size, window)
    preprocess = model.staged.preprocess
    smooth = pixels.resize(image.convert("RGB"), list(asked), INTERPOLATIONS[preprocess.interpolation])
    like = next(model.parameters())
    batch = normalised(smooth, preprocess)[None].to(like)
    logits = slide(model, batch, window, batch_size=batch_size)
    return resized(logits, size)[0].float().cpu()


def measure(
    model: DenseModel,
    split: DenseSplit,
    *,
    inference: str | None = None,
    batch_size: int = 16,
    whole: DenseModel | None = None,
    boundary: bool = True,
    autocast: Autocast = nullcontext,
    done: Callable[[int, int], None] | None = None,
) -> SegmentationMetrics:
    """The figures of a split; with `whole`, such as the unreduced model, also on how many pixels they
    agree."""
    scores, losses, pixels_seen = Scores(len(model.table), boundary), 0.0, 0
    for place, (logits, labels, theirs) in enumerate(
        _answers(model, split, inference, batch_size, whole, autocast)
    ):
        scores.update(labels, logits.argmax(0), theirs)
        known = int((labels != IGNORE).sum())
        loss = F.cross_entropy(logits[None], labels[None].long(), ignore_index=IGNORE, reduction="sum")
        losses, pixels_seen = losses + float(loss), pixels_seen + known
        if done is not None:
            done(place + 1, len(split))
    return scores.metrics(model.table.names, losses / max(pixels_seen, 1))


def _answers(
    model: DenseModel,
    split: DenseSplit,
    inference: str | None,
    batch_size: int,
    whole: DenseModel | None,
    autocast: Autocast,
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Logits and labels of every picture, and what the other model says."""
    training = model.training
    model.eval()
    try:
        for index in range(len(split)):
            image, labels = split[index]
            with autocast():
                logits = picture_logits(model, image, inference, batch_size)
                theirs = None
                if whole is not None:
                    theirs = picture_logits(whole, image, inference, batch_size).argmax(0)
            yield logits, torch.from_numpy(labels.astype("int64")), theirs
    finally:
        model.train(training)


def unreduced(model: DenseModel) -> DenseModel:
    """A copy of a trained model in which nothing is reduced: what its own reduction is compared with."""
    from copy import deepcopy

    copied = deepcopy(model).eval()
    for stage in copied.staged.stages:
        stage.before = stage.reducer = stage.mixing = None
        stage.proportional = False
    return copied
