"""What a given module is built like, written down so that the same can be built again, and compared.

timm keeps no record of the arguments a model was made with. They are read back from its parts here, a second
model is made from them without weights, and only if every part of both agrees are they believed. A
module that cannot be described this way is saved without its backbone and has to be given again.
"""

import hashlib
import json
import types
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from timm.layers import GELUTanh, LayerNorm
from timm.layers.activations import QuickGELU
from timm.layers.drop import DropPath
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitrim.backbones.geometry import image_size
from vitrim.backbones.support import TimmModule

CLASSES: dict[str, type[nn.Module]] = {
    "VisionTransformer": VisionTransformer,
    "VisionTransformerDistilled": VisionTransformerDistilled,
    "Eva": Eva,
}
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "GELU": nn.GELU, "GELUTanh": GELUTanh, "QuickGELU": QuickGELU, "ReLU": nn.ReLU, "SiLU": nn.SiLU,
}  # fmt: skip
NORMS: dict[str, type[nn.Module]] = {"torch": nn.LayerNorm, "timm": LayerNorm}
LARGEST = 65536  # of any number that describes a model
IDLE = (nn.Dropout, DropPath, nn.Identity)  # all the same when predicting
NOT_STRUCTURE = {
    "training", "grad_checkpointing", "weight_init_mode", "fix_init", "fused_attn", "p", "drop_prob",
    "scale_by_keep", "init_values", "distilled_training", "inplace", "num_classes", "head_init_scale",
}  # fmt: skip

Architecture = dict[str, Any]


def describe(vit: TimmModule) -> Architecture:
    """How to build this module again: {"name" or "class", "arguments"}; without arguments where that is not
    known."""
    name = (getattr(vit, "pretrained_cfg", None) or {}).get("architecture")
    size = list(image_size(vit))
    candidates: list[Architecture] = []
    if name:
        candidates.append({"name": name, "arguments": {"img_size": size, "num_classes": vit.num_classes}})
    if type(vit).__name__ in CLASSES and type(vit) is CLASSES[type(vit).__name__]:
        read = _eva_arguments if isinstance(vit, Eva) else _vit_arguments
        with suppress(AttributeError, TypeError, KeyError):  # a part exchanged for one of another kind
            candidates.append({"class": type(vit).__name__, "arguments": read(vit)})
    mine = _parts(vit)
    for candidate in candidates:
        try:
            with torch.device("meta"):
                twin = build(candidate)
        except Exception:  # timm asserts and raises many kinds for arguments that cannot be
            continue
        if _parts(twin) == mine:
            return candidate
    return {"class": type(vit).__name__}


def build(architecture: Architecture, **changes: Any) -> TimmModule:
    """A new model of a described structure, with weights of timm's own start."""
    import timm

    if "arguments" not in architecture:
        raise ValueError(
            f"the model was made on a {architecture.get('class')} that was passed as a module, whose "
            "structure "
            "cannot be built from a description; give it as backbone=MODULE"
        )
    arguments = {**_checked(architecture["arguments"]), **changes}
    if "name" in architecture:
        if not timm.is_model(architecture["name"]):
            raise ValueError(f"this timm has no model {architecture['name']!r}; install a newer one")
        return timm.create_model(architecture["name"], **arguments)
    made = CLASSES.get(str(architecture.get("class")))
    if made is None:
        raise ValueError(f"no class {architecture.get('class')!r}; known are {', '.join(CLASSES)}")
    norm, act = arguments.pop("norm", None), arguments.pop("act", None)
    if norm is not None:
        arguments["norm_layer"] = partial(NORMS[norm[0]], eps=float(norm[1]))
    if act is not None:
        arguments["act_layer"] = ACTIVATIONS[act]
    return made(**arguments)


def structure_digest(vit: TimmModule) -> str:
    """SHA-256 over the parts of a backbone, its classifier left out: names, kinds and what their text
    shows."""
    lines = [
        f"{name} {_kind(part)} {'' if isinstance(part, IDLE) else part.extra_repr()} "
        f"{getattr(part, 'num_heads', '')}"
        for name, part in vit.named_modules()
        if name.split(".")[0] not in ("head", "head_dist", "head_drop")
    ]
    about = [getattr(vit, name, None) for name in ("global_pool", "no_embed_class", "pool_include_prefix")]
    return hashlib.sha256(json.dumps([lines, about], default=str).encode()).hexdigest()


def _checked(arguments: Any) -> dict[str, Any]:
    """Arguments of a file, refused where no model has such."""
    if not isinstance(arguments, dict) or len(arguments) > 60:
        raise ValueError("the description of the backbone is damaged")
    for name, value in arguments.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        sensible = len(numbers) <= 4 and all(
            isinstance(one, str | bool | None) or (isinstance(one, int | float) and abs(one) <= LARGEST)
            for one in numbers
        )
        if not sensible or (name == "depth" and not 1 <= value <= 512):
            raise ValueError(f"the description of the backbone is damaged: {name} is {value!r}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}


def _kind(part: nn.Module) -> str:
    return "Identity" if isinstance(part, IDLE) else type(part).__name__


def _parts(vit: TimmModule) -> list[tuple[Any, ...]]:
    """Everything that decides what a model computes, but for its weights."""
    found: list[tuple[Any, ...]] = []
    for name, part in vit.named_modules():
        plain = {} if isinstance(part, IDLE) else vars(part)
        settings = sorted((key, _plain(value)) for key, value in plain.items() if _is_setting(key, value))
        found.append(
            (name, _kind(part), repr(settings), bool(part._forward_hooks or part._forward_pre_hooks))
        )
    weights = [*vit.named_parameters(), *vit.named_buffers()]
    return [*found, *((name, tuple(value.shape)) for name, value in weights)]


def _is_setting(key: str, value: Any) -> bool:
    if key.startswith("_") or key in NOT_STRUCTURE:
        return False
    return isinstance(value, bool | int | float | str | tuple | types.FunctionType | types.MethodType)


def _plain(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}" if callable(value) else repr(value)


def _norm(part: nn.Module) -> list[Any]:
    kind = {made: name for name, made in NORMS.items()}[type(part)]
    return [kind, part.eps]


def _is_there(part: nn.Module | None) -> bool:
    return part is not None and not isinstance(part, nn.Identity)


def _vit_arguments(vit: TimmModule) -> dict[str, Any]:
    block = vit.blocks[0]
    return {
        **_common(vit),
        "qkv_bias": block.attn.qkv.bias is not None,
        "scale_attn_norm": _is_there(block.attn.norm),
        "scale_mlp_norm": _is_there(block.mlp.norm),
        "proj_bias": block.attn.proj.bias is not None,
        "init_values": 1.0 if _is_there(block.ls1) else None,
        "pos_embed": "none" if vit.pos_embed is None else "learn",
        "class_token": vit.has_class_token,
        "reg_tokens": vit.num_reg_tokens,
        "pre_norm": _is_there(vit.norm_pre),
        "final_norm": _is_there(vit.norm) or _is_there(vit.fc_norm),
        "fc_norm": _is_there(vit.fc_norm),
        "pool_include_prefix": vit.pool_include_prefix,
        "act": {made: name for name, made in ACTIVATIONS.items()}[type(block.mlp.act)],
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
    if rope is not None:
        kinds = {
            "RotaryEmbeddingCat": "cat",
            "RotaryEmbeddingMixed": "mixed",
            "RotaryEmbeddingDinoV3": "dinov3",
        }
        arguments["rope_type"] = kinds[type(rope).__name__]
        for name in ("temperature", "grid_offset", "grid_indexing", "rotate_half"):
            if hasattr(rope, name):
                arguments[f"rope_{name}"] = getattr(rope, name)
        reference = getattr(rope, "ref_feat_shape", None)
        arguments["ref_feat_shape"] = None if reference is None else list(reference)
    return arguments


def _common(vit: TimmModule) -> dict[str, Any]:
    block = vit.blocks[0]
    first = getattr(block.mlp, "fc1", None) or block.mlp.fc1_g
    hidden = first.out_features // (2 if type(block.mlp).__name__ == "GluMlp" else 1)
    return {
        "img_size": list(vit.patch_embed.img_size),
        "patch_size": list(vit.patch_embed.patch_size),
        "in_chans": vit.patch_embed.proj.in_channels,
        "num_classes": vit.num_classes,
        "global_pool": vit.global_pool,
        "embed_dim": vit.embed_dim,
        "depth": len(vit.blocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": (hidden + 0.5) / vit.embed_dim,  # timm rounds the product down
        "qk_norm": _is_there(block.attn.q_norm),
        "no_embed_class": vit.no_embed_class,
        "dynamic_img_size": vit.dynamic_img_size,
        "dynamic_img_pad": vit.patch_embed.dynamic_img_pad,
        "norm": _norm(block.norm1),
    }
