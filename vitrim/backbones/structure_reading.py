"""The arguments a given module was made with, read back from its parts: one function for each of timm's
classes. What they cannot tell shows in the comparison that follows (structure.py)."""

from collections.abc import Callable
from typing import Any

from timm.layers import GELUTanh, LayerNorm
from timm.layers.activations import QuickGELU
from timm.layers.diff_attention import DiffAttention
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
from torch import nn

from vitrim.backbones.support import TimmModule, attentions, fused_projection, mlps

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "GELU": nn.GELU, "GELUTanh": GELUTanh, "QuickGELU": QuickGELU, "ReLU": nn.ReLU, "SiLU": nn.SiLU,
}  # fmt: skip
NORMS: dict[str, type[nn.Module]] = {"torch": nn.LayerNorm, "timm": LayerNorm}
BLOCKS: dict[str, type[nn.Module]] = {
    made.__name__: made
    for made in (ParallelScalingBlock, ParallelThingsBlock, ResPostBlock, ResPostRelPosBlock)
}
ROTARY = {"RotaryEmbeddingCat": "cat", "RotaryEmbeddingMixed": "mixed", "RotaryEmbeddingDinoV3": "dinov3"}
KINDS = {"Attention": "standard", "AttentionRope": "rope", "EvaAttention": "eva"}


def _norm(part: nn.Module) -> list[Any]:
    kind = {made: name for name, made in NORMS.items()}[type(part)]
    return [kind, part.eps]


def _act(part: nn.Module) -> str:
    return {made: name for name, made in ACTIVATIONS.items()}[type(part)]


def _is_there(part: Any) -> bool:
    return part is not None and not isinstance(part, nn.Identity)


def _vit_arguments(vit: TimmModule) -> dict[str, Any]:
    block = vit.blocks[0]
    attention, scaling = attentions(block)[0], isinstance(block, ParallelScalingBlock)
    own = type(block).__name__
    mlp = None if scaling else mlps(block)[0]
    out = block.attn_out_proj if scaling else attention.proj
    scale = (
        block.attns[0].ls
        if own == "ParallelThingsBlock"
        else getattr(block, "ls" if scaling else "ls1", None)
    )
    return {
        **_common(vit),
        "qkv_bias": fused_projection(attention)[0].bias is not None,  # type: ignore[index]
        "scale_attn_norm": _is_there(getattr(attention, "norm", None)),
        "scale_mlp_norm": mlp is not None and _is_there(mlp.norm),
        "proj_bias": out.bias is not None,
        "init_values": 1.0 if _is_there(scale) else None,
        "pos_embed": "none" if vit.pos_embed is None else "learn",
        "class_token": vit.has_class_token,
        "reg_tokens": vit.num_reg_tokens,
        "pre_norm": _is_there(vit.norm_pre),
        "final_norm": _is_there(vit.norm) or _is_there(vit.fc_norm),
        "fc_norm": _is_there(vit.fc_norm),
        "pool_include_prefix": vit.pool_include_prefix,
        "act": _act(block.mlp_act if mlp is None else mlp.act),
        **({"block": own} if own in BLOCKS else {}),
        **({"attn_layer": "diff"} if isinstance(attention, DiffAttention) else {}),
    }


def _beit_arguments(vit: TimmModule) -> dict[str, Any]:
    block = vit.blocks[0]
    return {
        **_sizes(vit),
        **_images(vit),
        "qkv_bias": block.attn.q_bias is not None,
        "swiglu_mlp": hasattr(block.mlp, "fc1_g"),
        "scale_mlp": _is_there(block.mlp.norm),
        "init_values": None if block.gamma_1 is None else 1.0,
        "use_abs_pos_emb": vit.pos_embed is not None,
        "use_rel_pos_bias": block.attn.relative_position_bias_table is not None,
        "use_shared_rel_pos_bias": vit.rel_pos_bias is not None,
        "use_fc_norm": _is_there(vit.fc_norm),
    }


def _relpos_arguments(vit: TimmModule) -> dict[str, Any]:
    block = vit.blocks[0]
    table = block.attn.rel_pos if vit.shared_rel_pos is None else vit.shared_rel_pos
    by_mlp = hasattr(table, "mlp")
    own = type(block).__name__
    return {
        **_sizes(vit),
        **_images(vit),
        "qkv_bias": block.attn.qkv.bias is not None,
        "qk_norm": _is_there(block.attn.q_norm),
        "init_values": 1.0 if _is_there(getattr(block, "ls1", None)) else None,
        "class_token": vit.cls_token is not None,
        "fc_norm": _is_there(vit.fc_norm),
        "rel_pos_type": ("mlp-swin" if table.mode == "swin" else "mlp") if by_mlp else "bias",
        "rel_pos_dim": table.mlp.fc1.out_features if by_mlp else None,
        "shared_rel_pos": vit.shared_rel_pos is not None,
        "act": _act(block.mlp.act),
        **({"block": own} if own in BLOCKS else {}),
    }


def _cait_arguments(vit: TimmModule) -> dict[str, Any]:
    block, last = vit.blocks[0], vit.blocks_token_only[0]
    return {
        **_sizes(vit),
        **_images(vit),
        "qkv_bias": block.attn.qkv.bias is not None,
        "depth_token_only": len(vit.blocks_token_only),
        "mlp_ratio_token_only": (last.mlp.fc1.out_features + 0.5) / vit.embed_dim,
        "act": _act(block.mlp.act),
    }


def _naflex_arguments(vit: TimmModule) -> dict[str, Any]:
    block, embeds, pool = vit.blocks[0], vit.embeds, vit.attn_pool
    attention, gamma = block.attn, getattr(block, "gamma_1", None)
    gated, grid = hasattr(block.mlp, "fc1_g"), embeds.pos_embed_grid_size
    fused = getattr(attention, "qkv", None)
    norm = getattr(attention, "norm", None)
    places = ("interp_mode", "ar_preserving", "antialias", "align_corners", "use_grid_sample")
    return {
        **_sizes(vit),
        "patch_size": list(embeds.patch_size),
        "in_chans": embeds.in_chans,
        "qkv_bias": (attention.q_proj if fused is None else fused).bias is not None,
        "qkv_fused": fused is not None,
        "qk_norm": _is_there(attention.q_norm),
        "proj_bias": attention.proj.bias is not None,
        "attn_type": KINDS[type(attention).__name__],
        "attn_gated": getattr(attention, "gate", None) is not None,
        "attn_only_layer_scale": gamma is not None and block.gamma_2 is None,
        "swiglu_mlp": gated,
        "scale_mlp_norm": _is_there(block.mlp.norm),
        "scale_attn_inner_norm": _is_there(norm),
        "init_values": 1.0 if gamma is not None or _is_there(getattr(block, "ls1", None)) else None,
        "class_token": vit.has_class_token,
        "reg_tokens": vit.num_reg_tokens,
        "pos_embed": embeds.pos_embed_type,
        "pos_embed_grid_size": None if grid is None else list(grid),
        **{f"pos_embed_{name}": getattr(embeds, f"pos_embed_{name}") for name in places},
        "embed_proj_type": "linear" if embeds.is_linear else "conv",
        "patchify_channels_last": embeds.channels_last,
        "enable_patch_interpolator": embeds.enable_patch_interpolator,
        "dynamic_img_pad": embeds.dynamic_img_pad,
        "use_key_only_attn_mask": vit.use_key_only_attn_mask,
        "pre_norm": _is_there(vit.norm_pre),
        "final_norm": _is_there(vit.norm) or _is_there(vit.fc_norm),
        "fc_norm": _is_there(vit.fc_norm),
        "pool_include_prefix": vit.pool_include_prefix,
        "attn_pool_num_heads": None if pool is None else pool.num_heads,
        "attn_pool_mlp_ratio": None if pool is None else (pool.mlp.fc1.out_features + 0.5) / vit.embed_dim,
        **_rotary(vit.rope, {"cat": "axial"}, "rope_ref_feat_shape"),
        **({} if gated else {"act": _act(block.mlp.act)}),
    }


def _eva_arguments(vit: TimmModule) -> dict[str, Any]:
    block, rope, pool = vit.blocks[0], vit.rope, vit.attn_pool
    fused = getattr(block.attn, "qkv", None)
    bias = block.attn.q_proj.bias if fused is None else getattr(block.attn, "q_bias", fused.bias)
    kind = type(block.attn).__name__
    arguments = {
        **_common(vit),
        "qkv_bias": (fused.bias if kind == "AttentionRope" and fused is not None else bias) is not None,
        "qkv_fused": fused is not None,
        "swiglu_mlp": type(block.mlp).__name__ != "Mlp",
        "scale_mlp": _is_there(block.mlp.norm),
        "scale_attn_inner": _is_there(block.attn.norm),
        "attn_type": "rope" if kind == "AttentionRope" else "eva",
        "init_values": None if block.gamma_1 is None else 1.0,
        "class_token": vit.cls_token is not None,
        "num_reg_tokens": 0 if vit.reg_token is None else vit.reg_token.shape[1],
        "use_abs_pos_emb": vit.pos_embed is not None,
        "use_rot_pos_emb": rope is not None,
        "use_pre_transformer_norm": _is_there(vit.norm_pre),
        "use_post_transformer_norm": _is_there(vit.norm),
        "use_fc_norm": _is_there(vit.fc_norm),
        "attn_pool_num_heads": None if pool is None else pool.num_heads,
        "attn_pool_mlp_ratio": None if pool is None else pool.mlp.fc1.out_features / vit.embed_dim,
    }
    return {**arguments, **_rotary(rope, {}, "ref_feat_shape")}


def _rotary(rope: TimmModule | None, names: dict[str, str], reference: str) -> dict[str, Any]:
    """How the rotary tables are made, or nothing."""
    if rope is None:
        return {}
    kind, shape = ROTARY[type(rope).__name__], getattr(rope, "ref_feat_shape", None)
    settings = ("temperature", "grid_offset", "grid_indexing", "rotate_half")
    return {
        "rope_type": names.get(kind, kind),
        **{f"rope_{name}": getattr(rope, name) for name in settings if hasattr(rope, name)},
        reference: None if shape is None else list(shape),
    }


def _common(vit: TimmModule) -> dict[str, Any]:
    return {
        **_sizes(vit),
        **_images(vit),
        "qk_norm": _is_there(attentions(vit.blocks[0])[0].q_norm),
        "no_embed_class": vit.no_embed_class,
        "dynamic_img_size": vit.dynamic_img_size,
        "dynamic_img_pad": vit.patch_embed.dynamic_img_pad,
    }


def _images(vit: TimmModule) -> dict[str, Any]:
    return {
        "img_size": list(vit.patch_embed.img_size),
        "patch_size": list(vit.patch_embed.patch_size),
        "in_chans": vit.patch_embed.proj.in_channels,
    }


def _sizes(vit: TimmModule) -> dict[str, Any]:
    block = vit.blocks[0]
    norm: Any
    if isinstance(block, ParallelScalingBlock):
        hidden, norm = block.in_split[0], block.in_norm
    else:
        mlp = mlps(block)[0]
        first = getattr(mlp, "fc1", None) or mlp.fc1_g
        hidden = first.out_features // (2 if type(mlp).__name__ == "GluMlp" else 1)
        norm = block.attns[0].norm if isinstance(block, ParallelThingsBlock) else block.norm1
    return {
        "num_classes": vit.num_classes,
        "global_pool": vit.global_pool,
        "embed_dim": vit.embed_dim,
        "depth": len(vit.blocks),
        "num_heads": attentions(block)[0].num_heads,
        "mlp_ratio": (hidden + 0.5) / vit.embed_dim,  # timm rounds the product down
        "norm": _norm(norm),
    }


Reader = Callable[[TimmModule], dict[str, Any]]

CLASSES: dict[str, tuple[type[nn.Module], Reader]] = {
    "VisionTransformer": (VisionTransformer, _vit_arguments),
    "VisionTransformerDistilled": (VisionTransformerDistilled, _vit_arguments),
    "Eva": (Eva, _eva_arguments),
    "Beit": (Beit, _beit_arguments),
    "VisionTransformerRelPos": (VisionTransformerRelPos, _relpos_arguments),
    "Cait": (Cait, _cait_arguments),
    "NaFlexVit": (NaFlexVit, _naflex_arguments),
}
