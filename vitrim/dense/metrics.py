"""How good a segmentation is, over all pixels of a data set together, never as a mean over images.

    IoU_c = TP_c / (TP_c + FP_c + FN_c)      not defined where a class is neither there nor said to be
    accuracy_c = TP_c / (TP_c + FN_c)        not defined where a class is not there
    mIoU, mAcc                               means over the classes that are defined
    aAcc                                     the share of all pixels that are right
    boundary IoU                             the IoU of what lies within d pixels of a mask's own contour
                                             (arXiv 2103.16562; d is 2 % of the image's diagonal), as a mean
                                             over classes

Pixels without a label (`IGNORE`) count for nothing; for the boundary they belong to neither mask, so that
both end where they begin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.dense.classes import IGNORE

RIM = 0.02  # of the diagonal


@dataclass(frozen=True)
class SegmentationMetrics:
    """The figures of a data set; None where one is not defined.

    Attributes:
        images: how many.
        miou, macc, aacc: as above.
        boundary_iou: the mean over classes.
        loss: mean cross-entropy, where it was measured.
        agreement: share of pixels that are told the same class as by another model.
        parts: for each class its name, iou, accuracy, boundary_iou and number of labelled pixels.
    """

    images: int
    miou: float | None
    macc: float | None
    aacc: float | None
    boundary_iou: float | None
    parts: tuple[dict[str, Any], ...]
    loss: float | None = None
    agreement: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The figures without those of single classes."""
        found = {
            "images": self.images, "miou": self.miou, "macc": self.macc, "aacc": self.aacc,
            "boundary_iou": self.boundary_iou,
        }  # fmt: skip
        further = {"loss": self.loss, "agreement": self.agreement}
        return found | {name: value for name, value in further.items() if value is not None}

    def relative_to(self, whole: SegmentationMetrics) -> float | None:
        """The mIoU as a share of that of another model, such as the unreduced one."""
        if self.miou is None or not whole.miou:
            return None
        return self.miou / whole.miou


class Scores:
    """Adds up images one by one. `update` takes whole label maps, each in its own size."""

    def __init__(self, classes: int, boundary: bool = True) -> None:
        self.classes = classes
        self.boundary = boundary
        self.images = 0
        self.confusion = torch.zeros(classes, classes, dtype=torch.long)  # [truth, prediction]
        self.rims = torch.zeros(2, classes, dtype=torch.long)  # what both have, what one has
        self.same = 0
        self.compared = 0

    def update(self, labels: Tensor, predicted: Tensor, by_other: Tensor | None = None) -> None:
        """One image: labels [H, W] with `IGNORE`, predicted classes [H, W], and what another model says."""
        if labels.shape != predicted.shape:
            raise ValueError(
                f"labels have {tuple(labels.shape)} pixels, but {tuple(predicted.shape)} were predicted"
            )
        labels, predicted = labels.detach().cpu().long(), predicted.detach().cpu().long()
        known = labels != IGNORE
        for name, found in (("labels", labels[known]), ("predictions", predicted)):
            if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < self.classes:
                odd = int(found.max()) if int(found.max()) >= self.classes else int(found.min())
                raise ValueError(f"{name} hold class {odd}, but there are {self.classes} classes, from 0")
        pairs = labels[known] * self.classes + predicted[known]
        self.confusion += torch.bincount(pairs, minlength=self.classes**2).view(self.classes, self.classes)
        if self.boundary:
            self._add_rims(labels, torch.where(known, predicted, IGNORE))
        if by_other is not None:
            self.same += int((predicted[known] == by_other.detach().cpu()[known]).sum())
            self.compared += int(known.sum())
        self.images += 1

    def _add_rims(self, labels: Tensor, predicted: Tensor) -> None:
        present = torch.cat([labels.unique(), predicted.unique()]).unique()
        present = present[present != IGNORE]
        distance = rim_width(labels.shape[0], labels.shape[1])
        truth = rim(labels[None] == present[:, None, None], distance)
        found = rim(predicted[None] == present[:, None, None], distance)
        self.rims[0, present] += (truth & found).sum((1, 2))
        self.rims[1, present] += (truth | found).sum((1, 2))

    def metrics(self, names: Sequence[str], loss: float | None = None) -> SegmentationMetrics:
        """The figures of all images so far."""
        right, labelled = self.confusion.diagonal(), self.confusion.sum(1)
        union = labelled + self.confusion.sum(0) - right
        parts: tuple[dict[str, Any], ...] = tuple(
            {
                "name": name,
                "iou": _share(right[c], union[c]),
                "accuracy": _share(right[c], labelled[c]),
                "boundary_iou": _share(self.rims[0, c], self.rims[1, c]) if self.boundary else None,
                "pixels": int(labelled[c]),
            }
            for c, name in enumerate(names)
        )
        return SegmentationMetrics(
            images=self.images,
            miou=_mean([part["iou"] for part in parts]),
            macc=_mean([part["accuracy"] for part in parts]),
            aacc=_share(right.sum(), labelled.sum()),
            boundary_iou=_mean([part["boundary_iou"] for part in parts]),
            parts=parts,
            loss=loss,
            agreement=self.same / self.compared if self.compared else None,
        )


def rim_width(height: int, width: int) -> int:
    """d, at least one pixel."""
    return max(1, round(RIM * math.hypot(height, width)))


def rim(masks: Tensor, distance: int) -> Tensor:
    """What of each mask [K, H, W] is lost when it is eroded `distance` times by 3 x 3 pixels; the edge of the
    image is a contour too."""
    outside = F.pad((~masks).float()[None], (distance,) * 4, value=1.0)
    size = 2 * distance + 1  # a square is a row of columns: twice in one direction is much less than at once
    near = F.max_pool2d(F.max_pool2d(outside, (size, 1), 1), (1, size), 1)[0]
    return masks & (near > 0)


def _share(part: Tensor, whole: Tensor) -> float | None:
    return int(part) / int(whole) if int(whole) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
