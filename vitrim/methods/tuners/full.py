"""Full fine-tuning: the backbone itself trains."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitrim.backbones.tuned_linear import Tuned
from vitrim.network.method import Method, option, store_blocks

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class Full(Method):
    """Every weight of the backbone trains, and the classifier (ViT-B/16: 85,798,656 without it).

    The upper bound and the most costly baseline of every comparison. A saved file then holds the whole model.

    Attributes:
        at: indices of the blocks that train, counted from 0, the last few for partial fine-tuning; None for
            all, and everything before and after them.
    """

    folds: ClassVar[bool] = True
    trains_own: ClassVar[bool] = True

    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)

    def attach(self, model: "StagedViT") -> None:
        blocks = [model.vit.blocks[index] for index in model.check_blocks(self.at, self)]
        for part in blocks if self.at is not None else [model.vit]:
            for module in part.modules():
                if isinstance(module, Tuned):
                    raise ValueError(
                        f"{self} trains every weight, but {module.by} keeps some frozen; use one of the two"
                    )
            part.requires_grad_(True)
