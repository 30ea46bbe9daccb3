"""Shares of the plain operations and sizes on disk of compositions on one backbone, each counted once."""

from __future__ import annotations

from vitrim.backbones.names import name_without_weights
from vitrim.backbones.shapes import shapes_only
from vitrim.compose import compose
from vitrim.measuring.costs import paper_macs
from vitrim.network.copying import copied
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.planner.sizes import file_megabytes

Methods = tuple[Method, ...]


class Counted:
    """Counts on the meta device and remembers."""

    def __init__(self, model: str, classes: int, image_size: int | tuple[int, int] | None) -> None:
        self._macs: dict[Methods, int] = {}
        self._megabytes: dict[Methods, float] = {}
        self._trained: dict[Methods, int] = {}
        with shapes_only():
            self.bare = compose(name_without_weights(model), num_classes=classes, image_size=image_size)

    def composed(self, methods: Methods) -> StagedViT:
        """On a copy of the backbone, which takes a tenth of the time of making it anew."""
        with shapes_only():
            return compose(copied(self.bare.vit), *methods)

    def macs(self, methods: Methods) -> int:
        """In the papers' convention, nothing folded."""
        if methods not in self._macs:
            model = self._measured(methods)
            self._macs[methods] = paper_macs(model, spend=True)
        return self._macs[methods]

    def _measured(self, methods: Methods) -> StagedViT:
        model = self.composed(methods)
        self._trained[methods] = sum(weight.numel() for weight in model.trained().values())
        self._megabytes[methods] = file_megabytes(model)
        return model

    def share(self, methods: Methods) -> float:
        """Of the plain backbone's."""
        return self.macs(methods) / self.macs(())

    def megabytes(self, methods: Methods) -> float:
        """Of the file for one task, classifier included."""
        if methods not in self._megabytes:
            self._measured(methods)
        return self._megabytes[methods]

    def trained(self, methods: Methods) -> int:
        """Parameters, the classifier left out."""
        for each in (methods, ()):
            if each not in self._trained:
                self._measured(each)
        return self._trained[methods] - self._trained[()]

    def least_share(self) -> float:
        """Of all compositions counted so far."""
        return min(self._macs.values()) / self.macs(())

    def least_megabytes(self) -> float:
        """Of all compositions whose size was counted, or of the classifier alone."""
        tuned = (size for methods, size in self._megabytes.items() if methods)
        return min(tuned, default=0.0) or self.megabytes(())
