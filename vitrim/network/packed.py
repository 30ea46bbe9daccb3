"""What of a composition takes images of many sizes in one batch, and what cannot."""

from typing import TYPE_CHECKING

from vitrim.backbones.packed import refuse_packed
from vitrim.network.placing import placed

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


def check_takes_packed(model: "StagedViT", history: bool) -> None:
    """Raise ValueError, naming the method, where a packed batch would not be computed as one by one."""
    if history:
        raise refuse_packed(
            "maps, intermediate features and what reductions did are kept on one grid for all images"
        )
    for _, part in placed(model):
        if not getattr(part, "static", True):
            raise refuse_packed(
                f"{part.by} keeps as many tokens as each image needs, which is not combined with padding"
            )
    for index, stage in enumerate(model.stages):
        if stage.mixing is not None and model.training:
            raise refuse_packed(
                f"the masks that attention of block {index} learns in training know no padding"
            )
        if stage.dispatch is not None:
            raise refuse_packed("DyT counts the patches that pass its routers, padding too")
        for branch in (*stage.beside_attention, *stage.beside_mlp):
            if branch.reads_grid or branch.reads_all:
                raise refuse_packed(f"{type(branch).__name__} of block {index} reads all patches of one grid")
