"""What a transformers `config.json` says, as arguments of timm's classes: one function for each model
type."""

from collections.abc import Callable
from typing import Any

from vitrim.backbones.structure import Architecture

ACTIVATIONS = {
    "gelu": "GELU", "gelu_pytorch_tanh": "GELUTanh", "gelu_new": "GELUTanh", "quick_gelu": "QuickGELU",
    "relu": "ReLU", "silu": "SiLU",
}  # fmt: skip


def _shape(config: dict[str, Any], eps: float) -> dict[str, Any]:
    width, act = config["hidden_size"], config.get("hidden_act", "gelu")
    if act not in ACTIVATIONS:
        raise ValueError(f"the activation {act!r} is not supported; known are {', '.join(ACTIVATIONS)}")
    hidden = config["intermediate_size"] if "intermediate_size" in config else 4 * width
    return {
        "img_size": config.get("image_size", 224),
        "patch_size": config.get("patch_size", 16),
        "in_chans": config.get("num_channels", 3),
        "embed_dim": width,
        "depth": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "mlp_ratio": (hidden + 0.5) / width,
        "qkv_bias": config.get("qkv_bias", True),
        "norm": ["torch", config.get("layer_norm_eps", eps)],
        "act": ACTIVATIONS[act],
    }


def _vit(config: dict[str, Any]) -> Architecture:
    return {"class": "VisionTransformer", "arguments": _shape(config, 1e-12)}


def _deit(config: dict[str, Any]) -> Architecture:
    return {"class": "VisionTransformerDistilled", "arguments": _shape(config, 1e-12)}


def _dinov2(config: dict[str, Any]) -> Architecture:
    if config.get("use_swiglu_ffn"):
        raise ValueError(
            "DINOv2 with SwiGLU is not read from a config.json; take timm's vit_giant_patch14_dinov2"
        )
    width = config["hidden_size"]
    shape = _shape({**config, "intermediate_size": width * config.get("mlp_ratio", 4)}, 1e-6)
    registers = config.get("num_register_tokens", 4) if "registers" in config["model_type"] else 0
    more = {"init_values": 1.0, "reg_tokens": registers, "no_embed_class": registers > 0}
    return {"class": "VisionTransformer", "arguments": {**shape, **more}}


def _dinov3(config: dict[str, Any]) -> Architecture:
    shape = _shape(config, 1e-5)
    act = shape.pop("act")
    gated = bool(config.get("use_gated_mlp"))
    if act != ("SiLU" if gated else "GELU") or config.get("key_bias"):
        raise ValueError("this DINOv3 has an activation or key bias that timm's model does not")
    more = {
        "qkv_bias": bool(config.get("query_bias", True)),
        "init_values": 1.0,
        "rope_type": "dinov3",
        "rope_temperature": config.get("rope_theta", 100.0),
        "rope_rotate_half": True,
        "use_rot_pos_emb": True,
        "use_abs_pos_emb": False,
        "num_reg_tokens": config.get("num_register_tokens", 0),
        "use_fc_norm": False,
        "global_pool": "token",
        "dynamic_img_size": True,
        "swiglu_mlp": gated,
        "swiglu_align_to": 8 if gated else 0,
    }
    return {"class": "Eva", "arguments": {**shape, **more}}


def _siglip(config: dict[str, Any]) -> Architecture:
    more = {"class_token": False, "global_pool": "map"}
    shape = _shape({"hidden_act": "gelu_pytorch_tanh", **config}, 1e-6)
    return {"class": "VisionTransformer", "arguments": {**shape, **more}}


def _clip(config: dict[str, Any]) -> Architecture:
    shape = _shape({"hidden_act": "quick_gelu", **config}, 1e-5)
    return {"class": "VisionTransformer", "arguments": {**shape, "pre_norm": True}}


CONFIGS: dict[str, Callable[[dict[str, Any]], Architecture]] = {
    "vit": _vit,
    "deit": _deit,
    "dinov2": _dinov2,
    "dinov2_with_registers": _dinov2,
    "dinov3_vit": _dinov3,
    "siglip_vision_model": _siglip,
    "siglip": _siglip,
    "clip_vision_model": _clip,
    "clip": _clip,
}
