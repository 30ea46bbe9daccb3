"""Which of transformers' models has the form of a timm backbone, and the `config.json` that says so: the
inverse of `transformers_configs`."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from vitrim.backbones.geometry import image_size, input_channels
from vitrim.backbones.structure import ACTIVATIONS as KINDS
from vitrim.backbones.support import PARALLEL, TimmModule
from vitrim.backbones.transformers_configs import ACTIVATIONS


@dataclass(frozen=True)
class Form:
    """One model type of transformers.

    Attributes:
        config: its configuration class.
        classifier: the class that ends in a classifier, empty where there is none.
        bare: the class that gives features, empty where none gives timm's.
        without_head: arguments that leave away what `bare` adds and timm does not have.
        output: what of the bare class's answer is timm's features: "pooler_output" or the first of
            "last_hidden_state".
        logits: where the classifier's answer is.
    """

    config: str
    classifier: str
    bare: str
    without_head: tuple[str, ...] = ()
    output: str = "last_hidden_state"
    logits: str = "logits"


FORMS = {
    "vit": Form("ViTConfig", "ViTForImageClassification", "ViTModel", ("add_pooling_layer",)),
    "deit": Form("DeiTConfig", "DeiTForImageClassificationWithTeacher", ""),
    "dinov2": Form("Dinov2Config", "Dinov2ForImageClassification", "Dinov2Model"),
    "dinov2_with_registers": Form(
        "Dinov2WithRegistersConfig", "Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersModel"
    ),
    "dinov3_vit": Form("DINOv3ViTConfig", "", "DINOv3ViTModel"),
    "siglip_vision_model": Form("SiglipVisionConfig", "", "SiglipVisionModel", output="pooler_output"),
    "clip_vision_model": Form(
        "CLIPVisionConfig",
        "CLIPVisionModelWithProjection",
        "CLIPVisionModel",
        output="pooler_output",
        logits="image_embeds",
    ),
}


def kind_of(vit: TimmModule) -> str:
    """The model type whose parts these are; empty where transformers has none of this class of timm's."""
    kind = type(vit).__name__
    if kind == "Eva":
        return "dinov3_vit"
    if kind == "VisionTransformerDistilled":
        return "deit"
    if kind != "VisionTransformer" or isinstance(vit.blocks[0], PARALLEL):
        return ""
    if vit.attn_pool is not None:
        return "siglip_vision_model"
    if not isinstance(vit.norm_pre, nn.Identity):
        return "clip_vision_model"
    if isinstance(vit.blocks[0].ls1, nn.Identity):
        return "vit"
    return "dinov2_with_registers" if vit.num_reg_tokens else "dinov2"


def config_of(vit: TimmModule, kind: str) -> dict[str, Any]:
    """What the model type's configuration says of this backbone. Whether that is all there is to say is found
    by running it."""
    block = vit.blocks[0]
    hidden = _first_layer(block.mlp).out_features
    height, width = image_size(vit)
    patch = tuple(vit.patch_embed.patch_size)
    shape: dict[str, Any] = {
        "hidden_size": vit.embed_dim,
        "num_hidden_layers": len(vit.blocks),
        "num_attention_heads": block.attn.num_heads,
        "image_size": height if height == width else [height, width],
        "patch_size": patch[0] if patch[0] == patch[1] else list(patch),
        "num_channels": input_channels(vit),
        "layer_norm_eps": block.norm1.eps,
        "hidden_act": _activation(block.mlp.act),
    }
    if kind in ("dinov2", "dinov2_with_registers"):
        ratio = hidden / vit.embed_dim
        shape["mlp_ratio"] = int(ratio) if ratio == int(ratio) else ratio
    else:
        shape["intermediate_size"] = hidden
    return {**shape, **_more(vit, kind)}


def _more(vit: TimmModule, kind: str) -> dict[str, Any]:
    """What only this model type has a setting for."""
    attention = vit.blocks[0].attn
    if kind in ("vit", "deit", "dinov2", "dinov2_with_registers"):
        registers = {"num_register_tokens": vit.num_reg_tokens} if kind.endswith("registers") else {}
        return {"qkv_bias": attention.qkv.bias is not None, **registers}
    if kind == "clip_vision_model":
        return {"projection_dim": vit.num_classes} if vit.num_classes else {}
    if kind != "dinov3_vit":
        return {}
    names = {name.removeprefix("blocks.0.attn.") for name in vit.state_dict() if "blocks.0.attn." in name}
    biased = bool(names & {"qkv.bias", "q_bias", "q_proj.bias"})
    return {
        "query_bias": biased,
        "value_bias": biased,
        "key_bias": bool(names & {"qkv.bias", "k_proj.bias"}),
        "use_gated_mlp": type(vit.blocks[0].mlp).__name__ != "Mlp",
        "num_register_tokens": 0 if vit.reg_token is None else vit.reg_token.shape[1],
        "rope_theta": float(getattr(vit.rope, "temperature", 100.0) or 100.0),
    }


def _first_layer(mlp: TimmModule) -> nn.Linear:
    found = getattr(mlp, "fc1_g", None) or getattr(mlp, "fc1", None)
    if not isinstance(found, nn.Linear):  # ViTamin's, which is two layers in one
        raise ValueError(f"transformers has no MLP like timm's {type(mlp).__name__}")
    return found


def _activation(layer: nn.Module) -> str:
    """transformers' name of an activation."""
    names = {KINDS[ours]: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    found = names.get(type(layer))
    if found is None:
        raise ValueError(f"transformers has no activation like {type(layer).__name__}")
    return found
