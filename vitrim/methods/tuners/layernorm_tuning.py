"""Norm tuning: only the gains and offsets of the norms train, in place."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitrim.backbones.tuned_linear import own_layer
from vitrim.checks import check_one_of, several
from vitrim.network.method import Method, option, store_blocks, store_setting

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

PARTS = ("weight", "bias")


@dataclass(frozen=True, repr=False)
class LayerNormTuning(Method):
    """Every norm's gain and offset train from their pre-trained values.

    2 D (2 L + 1) parameters (ViT-B/16: 38,400).
    The `lntune` baseline of the V-PETL benchmark. Norms of queries, keys and hidden activations and
    before the first block are included where a backbone has them.

    Attributes:
        parts: "weight" (gains), "bias" (offsets) or both.
        at: indices of the blocks whose norms train, counted from 0; None for all, and those outside the
            blocks.
    """

    folds: ClassVar[bool] = True
    trains_own: ClassVar[bool] = True

    parts: tuple[str, ...] = option(PARTS)
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        store_setting(self, "parts", several("LayerNormTuning", "parts", self.parts, str))
        if not self.parts:
            raise ValueError(f"LayerNormTuning: parts is empty; name at least one of {', '.join(PARTS)}")
        for part in self.parts:
            check_one_of("LayerNormTuning", "parts", part, PARTS)

    def attach(self, model: "StagedViT") -> None:
        for site in model.sites_in(self.at, self):
            if site.role != "norm":
                continue
            layer = own_layer(site, self)
            for part in self.parts:
                parameter = getattr(layer, part, None)  # root-mean-square norms have no offset
                if parameter is not None:
                    parameter.requires_grad_(True)
