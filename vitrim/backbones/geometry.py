"""How large a backbone's images and its grid of patches are, whatever it makes its patches with.

Most models project patches of pixels (`PatchEmbed`), hybrids and ViTamin run a convolutional stem first
(`HybridEmbed`), NaFlexViT keeps patches, places and prefix tokens in one module (`embeds`) and takes images
of any size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from vitrim.backbones.support import TimmModule  # timm is imported where it is used


def takes_patches(vit: TimmModule) -> bool:
    """Whether this is timm's NaFlexViT."""
    from timm.models.naflexvit import NaFlexVit

    return isinstance(vit, NaFlexVit)


def patch_part(vit: TimmModule) -> TimmModule:
    """The module that turns pixels into patch tokens."""
    return vit.embeds if takes_patches(vit) else vit.patch_embed


def patch_layer(vit: TimmModule) -> nn.Conv2d | nn.Linear | None:
    """The projection of patches to width D; None where a convolutional stem already gives that width."""
    layer = patch_part(vit).proj
    return layer if isinstance(layer, nn.Conv2d | nn.Linear) else None


def input_channels(vit: TimmModule) -> int:
    """Channels of the images: a hybrid's projection takes its stem's channels, not theirs."""
    part = patch_part(vit)
    return int(part.in_chans if hasattr(part, "in_chans") else part.proj.in_channels)


def image_size(vit: TimmModule) -> tuple[int, int]:
    """(height, width) in pixels that the backbone was built for."""
    if not takes_patches(vit):
        height, width = vit.patch_embed.img_size
    elif vit.embeds.default_img_size is not None:
        height, width = vit.embeds.default_img_size
    elif size := (getattr(vit, "pretrained_cfg", None) or {}).get("input_size"):
        height, width = size[-2:]
    else:
        grid, patch = vit.embeds.pos_embed_grid_size or (16, 16), vit.embeds.patch_size
        height, width = grid[0] * patch[0], grid[1] * patch[1]
    return int(height), int(width)


def set_image_size(vit: TimmModule, size: tuple[int, int]) -> None:
    """Build the backbone for images of another size; timm resizes what depends on it."""
    check_holds_a_patch(vit, size)
    if takes_patches(vit):
        vit.embeds.default_img_size = size  # it resizes its position table for every batch
    elif hasattr(vit, "set_input_size"):
        vit.set_input_size(img_size=size)
    else:
        raise ValueError(
            f"this timm cannot resize a {type(vit).__name__} that exists already; "
            f"create it with img_size={size} instead"
        )


def check_holds_a_patch(vit: TimmModule, size: tuple[int, int]) -> None:
    """Refuse images smaller than one patch."""
    rows, columns = pixels_per_patch(vit)
    if size[0] < rows or size[1] < columns:
        raise ValueError(
            f"images of {size[0]}x{size[1]} pixels are smaller than one patch of this backbone, which has "
            f"{rows}x{columns}; give a larger image_size"
        )


def pixels_per_patch(vit: TimmModule) -> tuple[int, int]:
    """How many pixels one patch token stands for, (down, across): a stem's stride included."""
    rows, columns = patch_part(vit).feat_ratio(as_scalar=False)
    return int(rows), int(columns)


def grid_of(vit: TimmModule, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the patches of an image of this size."""
    rows, columns = patch_part(vit).dynamic_feat_size(size)
    return int(rows), int(columns)


def grid_size(vit: TimmModule) -> tuple[int, int]:
    """Rows and columns of patches for the size the backbone was built for."""
    if takes_patches(vit):
        return grid_of(vit, image_size(vit))
    rows, columns = vit.patch_embed.grid_size
    return int(rows), int(columns)


def takes_any_size(vit: TimmModule) -> bool:
    """Whether one backbone runs images of several sizes."""
    return takes_patches(vit) or bool(getattr(vit, "dynamic_img_size", False))


def prefix_count(vit: TimmModule) -> int:
    """P, the tokens before the patches in the blocks: CaiT's class token enters only after them."""
    return 0 if hasattr(vit, "blocks_token_only") else int(vit.num_prefix_tokens)


def has_class_token(vit: TimmModule) -> bool:
    """Whether the first token in the blocks is a class token."""
    if prefix_count(vit) == 0:
        return False
    return bool(vit.has_class_token) if takes_patches(vit) else vit.cls_token is not None


def keep_statistics(vit: TimmModule) -> None:
    """Let a stem's batch norms use their running statistics in training too: a saved file holds what trains,
    and statistics that drift meanwhile would be lost with it."""
    for module in patch_part(vit).modules():
        if isinstance(module, _BatchNorm):
            module.eval()
