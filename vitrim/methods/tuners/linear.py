"""Linear probing: nothing but the classifier trains; in few bits, if wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from vitrim.backbones.tuned_linear import Tuned, hooked, plain_linear
from vitrim.checks import check_one_of
from vitrim.methods.quantising.linear import BITS, QuantisedLinear
from vitrim.network.method import Method, option

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

HEADS = ("head", "head_dist")  # timm's names


@dataclass(frozen=True, repr=False)
class Linear(Method):
    """Only the classifier on the frozen backbone trains, as it does beside every other tuner.

    It adds nothing; it is a method so that a recipe, a table or a run can name the baseline. With `bits` the
    classifier becomes the one of the smallest binary adapters (arXiv 2307.16867, released code): a linear
    layer without a bias whose weight is rounded to that many bits at every step, starting from the weight it
    replaces. C D weights train for C classes, and a file holds them in C D bits / 8 + 8 bytes: with
    `Adapter(width=1, bias=False, bits=1)` a VTAB-1K task takes 7 KiB on ViT-B/16.

    Attributes:
        bits: stored precision of the classifier, 1, 2, 4 or 8; None keeps floats and the bias.
    """

    folds: ClassVar[bool] = True

    bits: int | None = option(None)

    def __post_init__(self) -> None:
        if self.bits is not None:
            check_one_of("Linear", "bits", self.bits, BITS)

    def attach(self, model: StagedViT) -> None:
        """Nothing to plug in for floats: compose trains the classifier anyway."""
        if self.bits is None:
            return
        if not isinstance(model.vit.get_classifier(), tuple) and not isinstance(model.vit.head, nn.Linear):
            raise ValueError(
                f"{self}: this model has no linear classifier to store in bits; give num_classes of at "
                "least 1"
            )
        for name in HEADS:
            if hasattr(model.vit, name):
                setattr(model.vit, name, QuantisedHead(_own_head(getattr(model.vit, name), self), self.bits))


class QuantisedHead(QuantisedLinear, Tuned):
    """A classifier that computes with its weight rounded to `bits` bits, and without a bias."""

    def __init__(self, base: nn.Linear, bits: int) -> None:
        weight = base.weight
        super().__init__(base.in_features, base.out_features, bits, device=weight.device, dtype=weight.dtype)
        self.by = Linear.__name__
        self.train(base.training)
        if weight.is_meta or weight.std() > 0:  # zeros have no deviation to learn from: a fresh start
            with torch.no_grad():
                self.weight.copy_(weight)

    def merged(self) -> nn.Linear:
        """A plain layer that computes the same; with a bias of zeros, as timm's classifiers have one."""
        weight = self.rounded_weight().detach()
        return plain_linear(weight, weight.new_zeros(len(weight)))


def _own_head(head: nn.Module, by: Linear) -> nn.Linear:
    """The backbone's own linear classifier; refused where another would be lost."""
    if type(head) is not nn.Linear or hooked(head):
        what = f"a {type(head).__name__}" + (" with hooks" if hooked(head) else "")
        raise ValueError(
            f"{by}: the classifier is {what}, whose own computation would be lost; give a plain one"
        )
    return head
