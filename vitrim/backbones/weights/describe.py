"""What a backbone's tensors look like, in words for people."""

import re
from collections.abc import Mapping

from torch import Tensor

from vitrim.backbones.weights.key_maps import CLIP, SIZES, TIMM, TRANSFORMERS, TRANSFORMERS_TOWER
from vitrim.backbones.weights.wrappers import Found


def looks_like(found: Found) -> str:
    """Such as: a DINOv2 ViT-S/14 of transformers (12 blocks of width 384)."""
    return f"{_family(found)} {shape_words(found.tensors)}"


def shape_words(tensors: Mapping[str, Tensor]) -> str:
    """Such as: ViT-S/14 (12 blocks of width 384)."""
    patch = tensors.get("patch_embed.proj.weight", tensors.get("embeds.proj.weight"))
    depth = depth_of(tensors)
    if patch is None or patch.ndim < 2:
        return f"Vision Transformer ({depth} blocks)"
    width, side = patch.shape[0], patch.shape[-1]
    size = f"ViT-{SIZES[width]}/{side}" if width in SIZES else f"ViT with {side}-pixel patches"
    return f"{size} ({depth} blocks of width {width})"


def depth_of(tensors: Mapping[str, Tensor]) -> int:
    """How many blocks there are: the highest index and one."""
    indices = [int(match[1]) for match in (re.match(r"blocks\.(\d+)\.", name) for name in tensors) if match]
    return max(indices, default=-1) + 1


def classes_in(tensors: Mapping[str, Tensor]) -> int:
    """Outputs of the file's own classifier, 0 for none."""
    head = tensors.get("head.weight")
    return 0 if head is None or head.ndim != 2 else int(head.shape[0])


def _family(found: Found) -> str:
    names, library = found.tensors, found.layout
    scaled = any(re.search(r"\.ls1\.gamma|\.gamma_1", name) for name in names)
    if library is TRANSFORMERS:
        if "pos_embed" not in names:
            return "transformers' DINOv3"
        kind = "DINOv2" if scaled else "DeiT" if "dist_token" in names else "ViT"
        return f"transformers' {kind}"
    if library is TRANSFORMERS_TOWER:
        return "transformers' CLIP" if "cls_token" in names else "transformers' SigLIP"
    if library is CLIP and found.quick_gelu:
        return "OpenAI's CLIP"
    if library is TIMM and scaled and found.passed_over and "pos_embed" in names:
        return "the released DINOv2"
    return f"{library.name}'s" if library is TIMM else library.name
