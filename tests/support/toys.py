"""Small backbones of every supported family with all weights random, and what the contract tests ask of a
composition."""

import math
from functools import lru_cache, partial
from typing import Any

import pytest
import torch
from casting import Mould
from timm.layers import HybridEmbed
from timm.models.beit import Beit
from timm.models.cait import Cait
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import (
    ParallelScalingBlock,
    ParallelThingsBlock,
    ResPostBlock,
    VisionTransformer,
)
from timm.models.vision_transformer_relpos import ResPostRelPosBlock, VisionTransformerRelPos
from timm.models.vitamin import GeGluMlp
from torch import Tensor, nn

from vitrim.backbones.geometry import image_size, input_channels
from vitrim.network.model import StagedViT

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
    "beit": partial(Beit, **SIZES, init_values=0.1, use_rel_pos_bias=True, global_pool="token"),
    "relpos-rpn": partial(VisionTransformerRelPos, **SIZES, block_fn=ResPostRelPosBlock),
}


def hybrid(stem: nn.Module, proj: bool = True, **settings: object) -> VisionTransformer:
    """A ViT whose patches come from a convolutional stem of 4 pixels a cell."""
    embed = partial(HybridEmbed, backbone=stem, proj=proj)
    return VisionTransformer(**{**SIZES, "patch_size": 1, "embed_layer": embed, **settings})


def convolutions(width: int, channels: int = 3) -> nn.Module:
    """A stem with a batch norm, as ResNet-D's and MobileCLIP's have."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 2, 2), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, width, 3, 2, padding=1)
    )


def naflex(**settings: object) -> NaFlexVit:
    """32 pixels in patches of 4; its table of places is smaller and is resized for every batch."""
    sizes = {name: value for name, value in SIZES.items() if name != "img_size"}
    model = NaFlexVit(**{**sizes, "class_token": True, "pos_embed_grid_size": (5, 5), **settings})
    model.embeds.default_img_size = (32, 32)
    return model


RELPOS = partial(VisionTransformerRelPos, **SIZES)
GROUPED: dict[str, Any] = {
    **ROTARY,
    "attn_type": "rope",
    "qkv_fused": False,
    "num_heads": 4,
    "swiglu_mlp": True,
    "embed_dim": 32,
    "attn_only_layer_scale": True,
    "init_values": 0.1,
}


def grouped(depth: int = 12, **settings: object) -> Eva:
    """Queries of the first half of the blocks have a key each, those of the second share one of two."""
    shared = (4,) * (depth // 2) + (2,) * (depth - depth // 2)
    return Eva(**{**GROUPED, "depth": depth, "num_kv_heads": shared, **settings})


RADIO: dict[str, Any] = {
    "pos_embed_interp_mode": "bilinear",
    "pos_embed_ar_preserving": True,
    "pos_embed_antialias": False,
}

# Structures that only the tests of backbones try: the contract suites would take twice as long
MORE_FAMILIES = {
    "hybrid": lambda **changes: hybrid(convolutions(16), **changes),
    "hybrid-without-projection": lambda **changes: hybrid(
        convolutions(24), proj=False, no_embed_class=True, **changes
    ),
    "vitamin": lambda **changes: hybrid(
        convolutions(24), proj=False, mlp_layer=GeGluMlp, class_token=False, global_pool="avg", **changes
    ),
    "beit-shared": partial(Beit, **SIZES, use_shared_rel_pos_bias=True, use_rel_pos_bias=True),
    "beit-absolute": partial(Beit, **SIZES, use_abs_pos_emb=True, swiglu_mlp=True, scale_mlp=True),
    "relpos": RELPOS,
    "relpos-class": partial(RELPOS, class_token=True, global_pool="token"),
    "relpos-class-average": partial(RELPOS, class_token=True, fc_norm=True, qk_norm=True),
    "relpos-shared": partial(RELPOS, shared_rel_pos=True, rel_pos_dim=16),
    "relpos-table": partial(RELPOS, rel_pos_type="bias", class_token=True),
    "res-post": partial(VisionTransformer, **SIZES, block_fn=ResPostBlock),
    "eva-post-norm": partial(Eva, **ROTARY, use_post_norm=True, global_pool="token"),
    "sapiens2": partial(grouped, global_pool="token", num_reg_tokens=3),
    "naflex-map": partial(naflex, class_token=False, global_pool="map"),
    "naflex-average": partial(naflex, class_token=False, reg_tokens=2, global_pool="avg", fc_norm=True),
    "naflex-factorised": partial(naflex, global_pool="avg", pos_embed="factorized"),
    "naflex-radio": partial(naflex, global_pool="token", reg_tokens=3, final_norm=False, **RADIO),
    "naflex-convolution": partial(naflex, embed_proj_type="conv", global_pool="token", pre_norm=True),
    "naflex-rotary": partial(
        naflex, rope_type="axial", pos_embed="none", global_pool="token", rope_ref_feat_shape=(8, 8)
    ),
    "naflex-mixed": partial(naflex, rope_type="mixed", pos_embed="none", global_pool="avg", reg_tokens=1),
    "parallel-things": partial(
        VisionTransformer, **SIZES, block_fn=ParallelThingsBlock, init_values=0.1, qk_norm=True
    ),
    "parallel-scaling": partial(VisionTransformer, **SIZES, block_fn=ParallelScalingBlock, init_values=0.1),
    "parallel-scaling-apart": partial(
        VisionTransformer,
        **SIZES,
        block_fn=ParallelScalingBlock,
        qkv_bias=False,
        qk_norm=True,
        reg_tokens=1,
        class_token=False,
        global_pool="avg",
    ),
    "differential": partial(VisionTransformer, **SIZES, attn_layer="diff", reg_tokens=1),
    "differential-average": partial(
        VisionTransformer, **SIZES, attn_layer="diff", qk_norm=True, class_token=False, global_pool="avg"
    ),
    "cait": partial(Cait, **SIZES),
    "cait-average": partial(Cait, **SIZES, global_pool="avg", depth_token_only=1),
    "four-channels": partial(VisionTransformer, **SIZES, in_chans=4),
    "hybrid-twelve-channels": lambda **changes: hybrid(convolutions(16, 12), in_chans=12, **changes),
    "one-channel-patch-8": partial(
        VisionTransformer, **{**SIZES, "patch_size": 8}, in_chans=1, class_token=False, global_pool="avg"
    ),
}
NEEDS_NEWER_TIMM = ("eva-post-norm", "sapiens2")  # 1.0.20 cannot build these


def toy(
    family: str = "vit", dtype: torch.dtype = torch.float64, seed: int = 0, **changes: object
) -> nn.Module:
    """A backbone of the family with every weight random, LayerScale included: at its initial 1e-5 a wrong
    branch would pass."""
    made: nn.Module = _mould(family, dtype, seed, tuple(changes.items())).cast()
    return made


@lru_cache(maxsize=256)
def _mould(family: str, dtype: torch.dtype, seed: int, changes: tuple[tuple[str, Any], ...]) -> Mould:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            built = (FAMILIES | MORE_FAMILIES)[family](**dict(changes))
        except TypeError as error:
            if family not in NEEDS_NEWER_TIMM:
                raise
            pytest.skip(f"this version of timm cannot build it: {error}")
        return Mould(wake(built.to(dtype), seed).eval())


def wake(model: nn.Module, seed: int = 0) -> nn.Module:
    """Replace every parameter by random values of a sensible size, so that nothing is zero, one or tiny by
    its start."""
    parameters = dict(model.named_parameters())
    shapes = tuple((name, parameter.shape, parameter.dtype) for name, parameter in parameters.items())
    with torch.no_grad():
        for parameter, value in zip(parameters.values(), _woken(shapes, seed), strict=True):
            parameter.copy_(value)
    return model


@lru_cache(maxsize=32)
def _woken(shapes: tuple[tuple[str, torch.Size, torch.dtype], ...], seed: int) -> list[Tensor]:
    """The values of weights of these names and shapes, drawn once: the suites build the same toys thousands
    of times."""
    generator = torch.Generator().manual_seed(seed)
    values = []
    for name, shape, dtype in shapes:
        noise = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        if len(shape) > 1:
            values.append(noise / max(1, math.prod(shape[1:])) ** 0.5)
        else:
            gain = name.endswith("weight") or "gamma" in name
            values.append(gain + 0.1 * noise)
    return values


def images(model: nn.Module, batch: int = 2, seed: int = 1) -> Tensor:
    """A random batch that fits the backbone (a timm model or a StagedViT)."""
    vit = getattr(model, "vit", model)
    like = next(vit.parameters())
    generator = torch.Generator().manual_seed(seed)
    shape = batch, input_channels(vit), *image_size(vit)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(like.dtype)


def with_random_predictors(model: StagedViT) -> StagedViT:
    """The same with DynamicViT's predictors such that patches and images differ much, as trained ones do."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".predictor.score." in name and name.endswith("weight"):
                weight.copy_(torch.randn_like(weight) * 2 / weight.shape[1] ** 0.5)
    return model
