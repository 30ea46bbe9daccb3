"""Shares of the plain operations and sizes on disk of compositions on one backbone, each counted once."""

from __future__ import annotations

import torch

from vitrim.backbones.opening import name_without_weights
from vitrim.compose import compose
from vitrim.measuring.costs import paper_macs
from vitrim.network.method import Method
from vitrim.network.stage import StagedViT
from vitrim.planner.sizes import file_megabytes

Methods = tuple[Method, ...]


class Counted:
    """Counts on the meta device and remembers."""

    def __init__(self, model: str, classes: int, image_size: int | tuple[int, int] | None) -> None:
        self.model, self.classes, self.image_size = name_without_weights(model), classes, image_size
        self._macs: dict[Methods, int] = {}
        self._megabytes: dict[Methods, float] = {}
        bare = self.composed(())
        self.depth, self.patches = bare.depth, bare.patch_count
        self.classifier = _trained(bare)

    def composed(self, methods: Methods) -> StagedViT:
        with torch.device("meta"):
            return compose(self.model, *methods, num_classes=self.classes, image_size=self.image_size)

    def macs(self, methods: Methods) -> int:
        """In the papers' convention, nothing folded."""
        if methods not in self._macs:
            self._macs[methods] = paper_macs(self.composed(methods))
        return self._macs[methods]

    def share(self, methods: Methods) -> float:
        """Of the plain backbone's."""
        return self.macs(methods) / self.macs(())

    def megabytes(self, methods: Methods) -> float:
        """Of the file for one task, classifier included."""
        if methods not in self._megabytes:
            self._megabytes[methods] = file_megabytes(self.composed(methods))
        return self._megabytes[methods]

    def trained(self, methods: Methods) -> int:
        """Parameters, the classifier left out."""
        return _trained(self.composed(methods)) - self.classifier

    def least_share(self) -> float:
        """Of all compositions counted so far."""
        return min(self._macs.values()) / self.macs(())

    def least_megabytes(self) -> float:
        """Of all compositions whose size was asked for, or of the classifier alone."""
        return min(self._megabytes.values(), default=0.0) or self.megabytes(())


def _trained(model: StagedViT) -> int:
    return sum(weight.numel() for weight in model.trained().values())
