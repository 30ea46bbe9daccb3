"""Backbones with patches of another size: FlexiViT's resizing of the projection, for any plain one."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
from timm.layers import PatchEmbed, resample_abs_pos_embed, resample_patch_embed
from torch import nn

from vitrim.backbones.geometry import image_size, takes_patches
from vitrim.backbones.support import TimmModule

AS_TRAINED: dict[str, Any] = {"interpolation": "bilinear", "antialias": False}  # FlexiViT's own resizing
PROJECTION = "patch_embed.proj.weight"


def patch_size(vit: TimmModule) -> tuple[int, int]:
    """(height, width) in pixels of one patch."""
    height, width = vit.embeds.patch_size if takes_patches(vit) else vit.patch_embed.patch_size
    return int(height), int(width)


def pair_of(name: str, given: object) -> tuple[int, int]:
    """Pixels, or (height, width)."""
    pair = tuple(given) if isinstance(given, tuple | list) else (given, given)
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in pair)
    if len(pair) != 2 or not whole:
        raise ValueError(f"{name} must be pixels or (height, width), got {given!r}")
    return pair  # type: ignore[return-value]  # checked above


def set_patch_size(vit: TimmModule, patch: tuple[int, int], size: tuple[int, int] | None) -> None:
    """Project patches of another size, in place, on images of `size` (not given: of the same as before).

    timm's `resample_patch_embed` (FlexiViT, arXiv 2212.08013: the projection whose products with a resized
    patch are those with the patch before) makes the weights, and `resample_abs_pos_embed` the places, from
    their own grid to the new one at once.

    Raises:
        ValueError: for a backbone whose patches do not come from one convolution without overlap, or an image
            that the patches do not fill.
    """
    embed, resize = getattr(vit, "patch_embed", None), getattr(vit, "set_input_size", None)
    layer: nn.Module | None = getattr(embed, "proj", None)
    can = resize is not None and "patch_size" in signature(resize).parameters
    plain = isinstance(layer, nn.Conv2d) and layer.kernel_size == layer.stride
    if not can or not plain or type(embed) is not PatchEmbed or not isinstance(layer, nn.Conv2d):
        raise ValueError(
            f"patch_size={patch[0]}x{patch[1]} is for backbones whose patches come from one convolution "
            f"without overlap; this {type(vit).__name__} has another beginning: build the timm model with "
            "patch_size and pass it as a module"
        )
    height, width = size or image_size(vit)
    if height % patch[0] or width % patch[1]:
        raise ValueError(
            f"images of {height}x{width} pixels are not filled by patches of {patch[0]}x{patch[1]}; give an "
            "image_size that is a multiple of patch_size"
        )
    if layer.weight.is_meta:  # shapes alone, which a pseudo-inverse has not
        embed.proj = nn.Conv2d(
            layer.in_channels, layer.out_channels, patch, patch, bias=layer.bias is not None, device="meta"
        )
        embed.patch_size = patch
    weight, places, grid = layer.weight, getattr(vit, "pos_embed", None), embed.grid_size
    vit.set_input_size(img_size=(height, width), patch_size=patch)
    if is_flexible(vit) and not weight.is_meta:
        with torch.no_grad():
            vit.patch_embed.proj.weight.copy_(resample_patch_embed(weight, list(patch), **AS_TRAINED))
            vit.pos_embed.copy_(resample_abs_pos_embed(
                places, list(vit.patch_embed.grid_size), list(grid), prefix_in(vit), **AS_TRAINED
            ))  # fmt: skip


def is_flexible(vit: TimmModule) -> bool:
    """Whether this is a FlexiViT, whose weights timm resizes as they were in training."""
    return "flexivit" in str((getattr(vit, "pretrained_cfg", None) or {}).get("architecture"))


def prefix_in(vit: TimmModule) -> int:
    """Prefix tokens that have a place in the table of position embeddings."""
    return 0 if vit.no_embed_class else int(vit.num_prefix_tokens)
