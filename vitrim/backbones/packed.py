"""timm's NaFlex batches: patches of images of many sizes, with the cell of each and which are padding."""

from collections.abc import Mapping

import torch
from timm.models.naflexvit import NaFlexVit
from torch import Tensor

from vitrim.backbones.support import TimmModule

PARTS = ("patches", "patch_coord", "patch_valid")

# Images [B, channels, height, width], or timm's packed patches of images of many sizes
Images = Tensor | Mapping[str, Tensor]


def check_takes_packs(vit: TimmModule) -> None:
    """Refuse a backbone that takes images of one size in a batch."""
    if not isinstance(vit, NaFlexVit) or not vit.embeds.is_linear:
        raise ValueError(
            "only NaFlexViT with linear patches takes packed patches of many image sizes; this backbone "
            f"({type(vit).__name__}) takes images [B, channels, height, width]"
        )


def check_packed(vit: TimmModule, batch: Mapping[str, Tensor]) -> list[tuple[int, int]]:
    """The grid of every image of a packed batch, refused in words where the backbone cannot take it."""
    check_takes_packs(vit)
    if sorted(batch) != sorted(PARTS):
        raise ValueError(
            f"a packed batch has {', '.join(PARTS)}, as timm's NaFlex loader makes them, and got "
            f"{', '.join(map(str, batch)) or 'nothing'}; masks are made from patch_valid"
        )
    patches, coordinates, valid = (batch[name] for name in PARTS)
    images = tuple(patches.shape[:2])
    if (
        patches.ndim not in (3, 5)
        or coordinates.shape != (*images, 2)
        or valid.shape != images
        or 0 in images
    ):
        raise ValueError(
            "packed patches are [B, N, values of a patch], their patch_coord [B, N, 2] and patch_valid "
            f"[B, N]; got {list(patches.shape)}, {list(coordinates.shape)} and {list(valid.shape)}"
        )
    values, expected = patches[0, 0].numel(), vit.embeds.proj.in_features
    if values != expected and not (patches.ndim == 5 and vit.embeds.enable_patch_interpolator):
        raise ValueError(f"the backbone's patches have {expected} values each, got {values}")
    return _grids(coordinates, valid.bool())


def _grids(coordinates: Tensor, valid: Tensor) -> list[tuple[int, int]]:
    """Rows and columns of every image, whose patches must come row by row, with all padding behind."""
    counts = valid.sum(1)
    within = torch.arange(valid.shape[1], device=valid.device)
    sizes = torch.where(valid[..., None], coordinates, -1).amax(1) + 1  # [B, 2]
    columns = sizes[:, 1:].clamp(min=1)
    cells = torch.stack([within // columns, within % columns], dim=-1)  # [B, N, 2]
    right = (coordinates == cells).all(-1) | ~valid
    whole = right.all(1) & (valid == (within < counts[:, None])).all(1) & (sizes.prod(1) == counts)
    for index, fine in enumerate((whole & (counts > 0)).tolist()):
        if not fine:
            raise ValueError(
                f"the patches of image {index} are not a whole grid, row by row, with padding only behind; "
                "vitrim takes packed batches as timm's patchify_image and NaFlex loader make them"
            )
    return [(rows, across) for rows, across in sizes.tolist()]


def without_padding(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Patches, cells and validity, with nothing in the padding that could be mistaken for an image."""
    patches, coordinates, valid = (batch[name] for name in PARTS)
    there = valid.bool()
    empty = there.reshape(*there.shape, *[1] * (patches.ndim - 2))
    return torch.where(empty, patches, 0), coordinates * there[..., None], there


def refuse_packed(what: str) -> ValueError:
    """What cannot be done with images of many sizes at once."""
    return ValueError(
        f"{what}; give images of one size [B, channels, height, width] instead of packed patches"
    )
