"""Only the first blocks of a backbone, behind which its final norm and classifier stand."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from vitrim.checks import check_positive
from vitrim.network.method import Method

if TYPE_CHECKING:
    from vitrim.backbones.support import TimmModule
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class FirstBlocks(Method):
    """The first blocks alone run; the others are taken out of the model, and of its files.

    Final norm and classifier then read what the last of them gave. It trains nothing itself and goes with any
    tuner or reducer in the blocks that stay; name it before them. `vitrim.prune_layers` (vitrim prune) finds
    how many blocks a task needs, after SLS (Pruned RepAdapter in FPET's tables). With RepAdapter on ViT-B/16
    the weights that train are 18,432 for each block kept.

    Attributes:
        count: how many blocks stay.
    """

    starts_unchanged: ClassVar[bool] = False  # a shallower network

    count: int = 6

    def __post_init__(self) -> None:
        check_positive("FirstBlocks", "count", self.count)

    @classmethod
    def example(cls, model: "StagedViT") -> Self:
        """Half of the blocks."""
        return cls(max(1, model.depth // 2))

    def cut(self, vit: "TimmModule") -> None:
        """Take the others out of a backbone."""
        if self.count > len(vit.blocks):
            raise ValueError(f"{self}: the backbone has only {len(vit.blocks)} blocks")
        vit.blocks = vit.blocks[: self.count]

    def attach(self, model: "StagedViT") -> None:
        model.check_untouched(self.count, self)
        self.cut(model.vit)
        model.keep_stages(self.count)

    def first_blocks(self, count: int, depth: int) -> "FirstBlocks":
        return replace(self, count=min(count, self.count))


def cut_as_said(vit: "TimmModule", methods: tuple[Method, ...]) -> None:
    """Take out of a fresh backbone what its methods take out, before its weights are compared."""
    for method in methods:
        if isinstance(method, FirstBlocks):
            method.cut(vit)
