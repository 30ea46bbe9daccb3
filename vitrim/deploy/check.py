"""An exported file against the model it was made from, on photographs, at several batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

BATCHES = (1, 3, 8)
PICTURES = sum(BATCHES)  # every one is looked at once

# Largest difference of logits that passes, as a share of the largest logit. Half precision rounds at 1e-3
# (fp16) and 8e-3 (bf16), and can turn near ties among tokens, so it is given some thirty roundings.
TOLERANCE = {"fp32": 1e-4, "fp16": 3e-2, "bf16": 2e-1}


@dataclass(frozen=True)
class Agreement:
    """How an exported file compares with the model.

    Attributes:
        pictures: where the pictures came from.
        batches: the batch sizes that were run.
        largest_difference: of any logit from the model's, absolute.
        largest_logit: of the model, for scale.
        same_class: how many of the pictures get the same first class, of how many; None for a model without
            a classifier, whose features are compared instead of logits.
        tolerance: what `largest_difference / largest_logit` may come to; None for int8, whose accuracy
            counts.
    """

    pictures: str
    batches: tuple[int, ...]
    largest_difference: float
    largest_logit: float
    same_class: tuple[int, int] | None
    tolerance: float | None

    @property
    def agrees(self) -> bool:
        """Whether the file may have its name."""
        finite = self.largest_difference < float("inf")
        if self.tolerance is None:
            return finite
        close = self.largest_difference <= self.tolerance * self.largest_logit
        if self.same_class is None or self.tolerance > TOLERANCE["fp32"]:
            return close
        return close and self.same_class[0] == self.same_class[1]

    def in_words(self) -> str:
        what, same = "features", ""
        if self.same_class is not None:
            what, same = "logits", " and {} of {} pictures get the same class".format(*self.same_class)
        batches = ", ".join(map(str, self.batches))
        return (
            f"{what} differ by at most {self.largest_difference:.2g} (the largest is "
            f"{self.largest_logit:.3g}){same}, at batches {batches} on {self.pictures}"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@torch.inference_mode()
def compare(
    model: nn.Module,
    exported: nn.Module,
    images: Tensor,
    pictures: str,
    precision: str,
    has_classes: bool = True,
) -> Agreement:
    """Run both on `images` [12, C, height, width], in batches of 1, 3 and 8; `model` runs in float32."""
    expected, found = [], []
    for batch in _in_batches(images, BATCHES):
        expected.append(model(batch).float())
        found.append(exported(batch).float())
    ours, theirs = torch.cat(expected), torch.cat(found)  # [12, classes]
    difference = (ours - theirs).abs().nan_to_num(float("inf")).max().item()
    same = (int((ours.argmax(1) == theirs.argmax(1)).sum()), len(images)) if has_classes else None
    largest = ours.abs().max().item()
    return Agreement(pictures, BATCHES, difference, largest, same, TOLERANCE.get(precision))


def _in_batches(images: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    if len(images) != sum(sizes):
        raise ValueError(f"the check takes {sum(sizes)} pictures, got {len(images)}")
    return list(images.split(list(sizes)))
