"""Mixup and cutmix, timm's: the images of a batch in pairs, and soft labels."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from vitrim.settings.training import Training

Mixup = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # images, labels [B] -> images, shares [B, classes]


def mixes(training: Training) -> bool:
    """Whether labels become shares of several classes."""
    return training.mixup > 0 or training.cutmix > 0


def make_mixup(training: Training, classes: int) -> Mixup | None:
    """What mixes batches, label smoothing included; None where the settings ask for none."""
    from timm.data import Mixup

    if not mixes(training):
        return None
    mix: Mixup = Mixup(
        mixup_alpha=training.mixup,
        cutmix_alpha=training.cutmix,
        label_smoothing=training.label_smoothing,
        num_classes=classes,
    )

    def mixed(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """A clip is mixed as one image of all its frames' channels: the same box is cut out of each frame."""
        flat, shares = mix(images.flatten(1, -3), labels)
        return flat.view(images.shape), shares

    return mixed
