"""From images to the sequence before the first block, exactly as timm's models begin."""

from typing import Any, NamedTuple

import torch
from timm.models.beit import Beit
from timm.models.cait import Cait
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor

from vitrim.backbones.geometry import (
    grid_of,
    grid_size,
    image_size,
    input_channels,
    patch_part,
    pixels_per_patch,
    prefix_count,
    takes_any_size,
)
from vitrim.backbones.packed import Images, check_packed, without_padding
from vitrim.backbones.places import Places
from vitrim.backbones.support import TimmModule
from vitrim.tokens.padded import start_padded
from vitrim.tokens.state import TokenState


class Embedded(NamedTuple):
    """The sequence before the first block, its grid, and what each block's attention is told about places."""

    tokens: Tensor  # [B, P+N, D]
    grid: tuple[int, int]
    places: list[Places]
    grids: list[tuple[int, int]] | None = None  # of a packed batch, that of every image

    def start(self, prefix: int) -> TokenState:
        """The state before the first block."""
        if self.grids is None:
            return TokenState.start(self.tokens, prefix, self.grid)
        return start_padded(self.tokens, prefix, self.grids)


def embed(vit: TimmModule, images: Images) -> Embedded:
    """Patches, position embedding, prefix tokens and pre-norm, exactly as timm's `forward_features`
    begins."""
    if not isinstance(images, Tensor):
        grids = check_packed(vit, images)
        embedded = vit._forward_embeds(*without_padding(images), None)
        tokens = embedded["patches"]
        places = _places(vit, embedded["rope_embeds"], None)
        return Embedded(tokens, (1, tokens.shape[1] - prefix_count(vit)), places, grids)
    check_images(vit, images)
    rotary = shared = None
    if isinstance(vit, NaFlexVit):
        embedded = vit._forward_embeds(images, None, None, None)
        tokens, rotary = embedded["patches"], embedded["rope_embeds"]
    elif isinstance(vit, Beit | VisionTransformerRelPos):
        tokens, shared = _embed_without_rotary(vit, images)
    elif isinstance(vit, Cait):
        tokens = vit.pos_drop(vit.patch_embed(images) + vit.pos_embed)
    elif isinstance(vit, Eva):
        tokens, rotary = vit._pos_embed(vit.patch_embed(images))
        tokens = vit.norm_pre(tokens)
    else:
        tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
    grid = grid_of(vit, (images.shape[-2], images.shape[-1])) if takes_any_size(vit) else grid_size(vit)
    return Embedded(tokens, grid, _places(vit, rotary, shared))


def _places(vit: TimmModule, rotary: Any, shared: Tensor | None) -> list[Places]:
    """What every block is told: one rotary table for all, or one for each."""
    mixed = bool(getattr(vit, "rope_mixed", False) or getattr(vit, "rope_is_mixed", False))
    tables = list(rotary) if rotary is not None and mixed else [rotary] * len(vit.blocks)
    return [Places(table, shared) for table in tables]


def _embed_without_rotary(vit: TimmModule, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """BEiT's and the relative-position ViTs' tokens, and the relative bias that all blocks share, if any."""
    tokens = vit.patch_embed(images)
    if vit.cls_token is not None:
        tokens = torch.cat([vit.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
    if isinstance(vit, VisionTransformerRelPos):
        return tokens, None if vit.shared_rel_pos is None else vit.shared_rel_pos.get_bias()
    if vit.pos_embed is not None:
        tokens = tokens + vit.pos_embed
    return vit.pos_drop(tokens), None if vit.rel_pos_bias is None else vit.rel_pos_bias()


def check_images(vit: TimmModule, images: Tensor) -> None:
    """Refuse a batch the patch embedding cannot take, in words of images instead of tensors."""
    if images.ndim != 4:
        raise ValueError(
            f"expected a batch of images [B, channels, height, width], got {images.ndim} dimensions"
        )
    channels, height, width = images.shape[1:]
    if channels != input_channels(vit):
        raise ValueError(f"the backbone takes {input_channels(vit)} channels, got images with {channels}")
    if not takes_any_size(vit) and (height, width) != image_size(vit):
        rows, columns = image_size(vit)
        raise ValueError(
            f"the backbone was built for images of {rows}x{columns} pixels, got {height}x{width}; "
            f"resize the images or compose(..., image_size=({height}, {width}))"
        )
    patch = pixels_per_patch(vit)
    padded = patch_part(vit).dynamic_img_pad or not takes_any_size(vit)
    if not padded and (height % patch[0] or width % patch[1]):
        raise ValueError(
            f"image sides must be a multiple of the {patch[0]}x{patch[1]} patch, got {height}x{width}"
        )
