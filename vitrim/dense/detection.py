"""A tuned and reduced ViT under torchvision's detectors: its restored last map as a simple feature pyramid
(ViTDet, arXiv 2203.16527): 4, 2, 1 and 1/2 times the grid, each through a 1 x 1 and a 3 x 3 convolution with
layer norms, and one more level by a maximum.

No score on COCO is claimed: this is the connection, shown by training.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.backbones.geometry import pixels_per_patch, takes_any_size
from vitrim.checks import check_one_of, check_positive
from vitrim.dense.model import check_staged
from vitrim.dense.pyramid import scaled
from vitrim.dense.restoring import grid_of_patches, states_at
from vitrim.network.model import StagedViT
from vitrim.tokens.restore import MODES

if TYPE_CHECKING:
    from torchvision.models.detection import FasterRCNN

POWERS = (2, 1, 0, -1)


class DetectionBackbone(nn.Module):
    """What torchvision's detectors call a backbone: images in, an OrderedDict of maps out, `out_channels`.

    >>> staged = compose("vit_small_patch16_224", LoRA(), EViT(keep=0.7), num_classes=0, image_size=512)
    >>> detector = faster_rcnn(DetectionBackbone(staged), classes=91)

    Args:
        staged: a model of `compose` with num_classes=0.
        out_channels: channels of every map.
        restore: "delta", "copy" or "knn".
    """

    def __init__(self, staged: StagedViT, out_channels: int = 256, restore: str = "delta") -> None:
        super().__init__()
        check_one_of("DetectionBackbone", "restore", restore, MODES)
        check_positive("DetectionBackbone", "out_channels", out_channels)
        check_staged(staged)
        self.staged, self.out_channels, self.restore = staged, out_channels, restore
        self.levels = nn.ModuleList(_level(staged.width, out_channels, power) for power in POWERS)
        self.penalty: Tensor | None = None

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Maps "0" to "3" from the finest to the coarsest, and "pool". What learned reducers add to the loss
        is in `penalty` afterwards."""
        last = self.staged.depth - 1
        state = states_at(self.staged, images, [last], self.restore)[0]
        self.penalty = state.penalty
        full = grid_of_patches(self.staged, state, self.restore, norm=True)
        maps = OrderedDict((str(place), level(full)) for place, level in enumerate(self.levels))
        maps["pool"] = F.max_pool2d(maps["3"], 1, stride=2)
        return maps


def faster_rcnn(backbone: DetectionBackbone, classes: int) -> FasterRCNN:
    """torchvision's Faster R-CNN on such a backbone, for so many classes with the background (class 0).

    Images are resized to the backbone's own size where it takes no other, and to a shorter side of that
    otherwise, and normalised as it expects; anchors begin at twice the finest level's stride.
    """
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.rpn import AnchorGenerator

    check_positive("faster_rcnn", "classes", classes)
    preprocess = backbone.staged.preprocess
    height, width = preprocess.image_size
    patch = pixels_per_patch(backbone.staged.vit)[0]
    levels = len(POWERS) + 1
    first = max(2, 2 * patch // 2 ** POWERS[0])
    anchors = AnchorGenerator(
        tuple((first * 2**level,) for level in range(levels)), ((0.5, 1.0, 2.0),) * levels
    )
    any_size = takes_any_size(backbone.staged.vit)
    detector = FasterRCNN(
        backbone,
        num_classes=classes,
        rpn_anchor_generator=anchors,
        image_mean=list(preprocess.mean),
        image_std=list(preprocess.std),
        min_size=min(height, width),
        max_size=max(height, width) if not any_size else 2 * max(height, width),
        fixed_size=None if any_size else (height, width),
        size_divisible=patch,
    )
    return detector


def _level(width: int, channels: int, power: int) -> nn.Module:
    return nn.Sequential(
        scaled(width, width, power),
        nn.Conv2d(width, channels, 1, bias=False),
        LayerNorm2d(channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        LayerNorm2d(channels),
    )
