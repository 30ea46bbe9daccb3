"""Weights for torchvision's VisionTransformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from vitrim.backbones.geometry import image_size
from vitrim.backbones.support import TimmModule
from vitrim.backbones.weights.renaming import renamed
from vitrim.deploy.plain_weights import Written, strictly, write_tensors
from vitrim.network.model import StagedViT

# patch, blocks, heads, width, hidden width of the MLP
NAMES = {
    (16, 12, 12, 768, 3072): "vit_b_16",
    (32, 12, 12, 768, 3072): "vit_b_32",
    (16, 24, 16, 1024, 4096): "vit_l_16",
    (32, 24, 16, 1024, 4096): "vit_l_32",
    (14, 32, 16, 1280, 5120): "vit_h_14",
}


def write(plain: TimmModule, staged: StagedViT, about: dict[str, Any], part: Path) -> Written:
    """Write the file, and load it with torchvision's own class."""
    from torchvision.models import VisionTransformer

    called = f"this {about['backbone']}"
    fc1 = getattr(getattr(plain.blocks[0], "mlp", None), "fc1", None)
    if type(plain).__name__ != "VisionTransformer" or fc1 is None:
        raise ValueError(f"torchvision has no form for {called}: its ViT is the plain one of 2020")
    if plain.num_classes == 0:
        raise ValueError(f"torchvision has no form for {called}: its ViT always ends in a classifier")
    height, width = image_size(plain)
    patch = tuple(plain.patch_embed.patch_size)
    if height != width or patch[0] != patch[1]:
        raise ValueError(f"torchvision has no form for {called}: its images and patches are square")
    shape = (patch[0], len(plain.blocks), plain.blocks[0].attn.num_heads, plain.embed_dim, fc1.out_features)
    fresh = VisionTransformer(height, *shape, num_classes=plain.num_classes).eval()
    tensors = renamed(plain.state_dict(), fresh.state_dict(), called, "torchvision")
    write_tensors(tensors, about, part)
    with strictly("torchvision", about["backbone"]):
        fresh.load_state_dict(load_file(part), strict=True)
    named = f"{NAMES[shape]}(" if shape in NAMES else f"VisionTransformer({height}, {str(shape)[1:-1]}, "
    size = f", image_size={height}" if shape in NAMES and height != 224 else ""
    return Written(
        fresh,
        f"torchvision.models.{named}num_classes={plain.num_classes}{size})"
        ".load_state_dict(safetensors.torch.load_file(FILE))",
    )
