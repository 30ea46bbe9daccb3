"""A BatchNorm before the classifier, as in AdaptFormer's runs on whole data sets."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from vitrim.network.method import Method

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class BatchNormHead(Method):
    """What the classifier reads is normalised per channel over the batch: BatchNorm without weights, eps
    1e-6, then the linear layer (arXiv 2205.13535, after MAE's linear probing).

    Trains nothing itself; the running mean and variance are saved. `vitrim train --head batchnorm` adds it.
    """

    def attach(self, model: "StagedViT") -> None:
        width = model.vit.num_features
        from vitrim.backbones.heads import normalise_before_head

        weight = next(model.vit.parameters())
        normalise_before_head(
            model.vit, nn.BatchNorm1d(width, eps=1e-6, affine=False, device=weight.device, dtype=weight.dtype)
        )
