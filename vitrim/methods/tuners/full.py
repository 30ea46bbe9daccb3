"""Full fine-tuning: the backbone itself trains."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitrim.backbones.tuned_linear import Tuned
from vitrim.network.method import Method

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class Full(Method):
    """Every weight of the backbone trains, and the classifier (ViT-B/16: 85,798,656 without it).

    The upper bound and the most costly baseline of every comparison. A saved file then holds the whole model.
    """

    folds: ClassVar[bool] = True
    trains_own: ClassVar[bool] = True

    def attach(self, model: "StagedViT") -> None:
        for module in model.vit.modules():
            if isinstance(module, Tuned):
                raise ValueError(
                    f"{self} trains every weight, but {module.by} keeps some frozen; use one of the two"
                )
        model.vit.requires_grad_(True)
