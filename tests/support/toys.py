"""Small backbones of every supported family with all weights random, and what the contract tests ask of a
composition."""

from functools import partial
from typing import Any

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

SIZES: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 4,
    "embed_dim": 24,
    "depth": 12,
    "num_heads": 2,
    "num_classes": 5,
}
NORM = partial(nn.LayerNorm, eps=1e-5)

DINOV3: dict[str, Any] = {
    **SIZES,
    "init_values": 1e-5,
    "rope_type": "dinov3",
    "rope_rotate_half": True,
    "use_rot_pos_emb": True,
    "use_abs_pos_emb": False,
    "num_reg_tokens": 4,
    "use_fc_norm": False,
    "dynamic_img_size": True,
    "norm_layer": NORM,
}
ROTARY: dict[str, Any] = {**SIZES, "use_rot_pos_emb": True, "ref_feat_shape": (8, 8)}
SWIGLU: dict[str, Any] = {"qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True, "mlp_ratio": 8 / 3}
PE_CORE: dict[str, Any] = {
    "global_pool": "map",
    "attn_type": "rope",
    "use_pre_transformer_norm": True,
    "rope_grid_offset": 1.0,
    "rope_grid_indexing": "xy",
    "attn_pool_num_heads": 2,
    "attn_pool_mlp_ratio": 4.0,
    "norm_layer": NORM,
}

FAMILIES = {
    "vit": partial(VisionTransformer, **SIZES),
    "distilled": partial(VisionTransformerDistilled, **SIZES),
    "deit3": partial(VisionTransformer, **SIZES, no_embed_class=True, init_values=1e-6),
    "clip": partial(VisionTransformer, **SIZES, pre_norm=True, norm_layer=NORM),
    "siglip": partial(VisionTransformer, **SIZES, class_token=False, global_pool="map"),
    "dinov2": partial(VisionTransformer, **SIZES, init_values=1e-5),
    "dinov2-registers": partial(
        VisionTransformer, **SIZES, init_values=1e-5, reg_tokens=4, no_embed_class=True
    ),
    "average": partial(VisionTransformer, **SIZES, global_pool="avg"),
    "average-registers": partial(
        VisionTransformer, **SIZES, global_pool="avg", class_token=False, reg_tokens=3
    ),
    "internvit": partial(
        VisionTransformer, **SIZES, init_values=0.1, final_norm=False, dynamic_img_size=True
    ),
    "qk-norm": partial(VisionTransformer, **SIZES, qk_norm=True),
    "dinov3": partial(Eva, **DINOV3, qkv_bias=False),
    "dinov3-qkvb": partial(Eva, **DINOV3, qkv_bias=True, global_pool="token"),
    "eva02": partial(Eva, **ROTARY, **SWIGLU),
    "pe-core": partial(Eva, **ROTARY, **PE_CORE),
    "rope-mixed": partial(
        Eva, **SIZES, attn_type="rope", rope_type="mixed", use_rot_pos_emb=True, use_abs_pos_emb=False
    ),
    "rectangular": partial(VisionTransformer, **{**SIZES, "img_size": (24, 40)}),
}


def toy(
    family: str = "vit", dtype: torch.dtype = torch.float64, seed: int = 0, **changes: object
) -> nn.Module:
    """A backbone of the family with every weight random, LayerScale included: at its initial 1e-5 a wrong
    branch would pass."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return wake(FAMILIES[family](**changes).to(dtype), seed).eval()


def wake(model: nn.Module, seed: int = 0) -> nn.Module:
    """Replace every parameter by random values of a sensible size, so that nothing is zero, one or tiny by
    its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype)
            if parameter.ndim > 1:
                parameter.copy_(noise / max(1, parameter[0].numel()) ** 0.5)
            else:
                gain = name.endswith("weight") or "gamma" in name
                parameter.copy_(gain + 0.1 * noise)
    return model


def images(model: nn.Module, batch: int = 2, seed: int = 1) -> Tensor:
    """A random batch that fits the backbone (a timm model or a StagedViT)."""
    vit = getattr(model, "vit", model)
    like = next(vit.parameters())
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, *vit.patch_embed.img_size, generator=generator, dtype=torch.float64).to(
        like.dtype
    )
