"""BLIP as a carrier: the image encoder of transformers' `BlipForImageTextRetrieval` becomes a timm Vision
Transformer that takes any tuner and reducer, the text encoder a text tower that looks at images.

transformers gives neither losses nor queue nor momentum, leaves [ENC] out and makes the image's mask on the
CPU; here its parts are called, not its forward. Similarities and matching logits are the same (tested on
random weights), except that [ENC] takes the first token's place unless `enc_token=None`.
"""

from functools import partial
from pathlib import Path
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitrim.compose import compose
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.retrieval.crossing import BLIP_ENC, CrossModalText
from vitrim.retrieval.extras import opened
from vitrim.retrieval.model import RetrievalModel
from vitrim.retrieval.text_tuning import tune_text
from vitrim.retrieval.uniadapter import UniAdapter, put_on_vision

BLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
BLIP_STD = (0.26862954, 0.26130258, 0.27577711)
NAMES = {  # of a block in transformers -> in timm
    "self_attn.qkv": "attn.qkv",
    "self_attn.projection": "attn.proj",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def open_blip(folder: str | Path) -> nn.Module:
    """A BLIP retrieval model from a local folder with config.json and safetensors weights, or one of
    the Hub's names; nothing is unpickled."""
    return opened("BlipForImageTextRetrieval", str(folder), "BLIP retrieval model", use_safetensors=True)


def from_blip(
    blip: nn.Module,
    *methods: Method | str,
    uniadapter: UniAdapter | None = None,
    text_methods: tuple[Method | str, ...] = (),
    vision: StagedViT | None = None,
    loss: str = "moco",
    enc_token: int | None = BLIP_ENC,
    length: int = 35,
    **options: Any,
) -> RetrievalModel:
    """A `RetrievalModel` with the weights of a BLIP retrieval model, head "itc+itm" and its own
    projections.

    Everything is frozen but what the methods add, the projections and the matching head; the
    temperature too, as in UniAdapter. The model given is taken apart and should not be used afterwards.

    Args:
        blip: transformers' `BlipForImageTextRetrieval`.
        methods: for the vision tower, such as Bipartite(at=(6,)), which FPET puts there.
        uniadapter: shared bottlenecks of both towers.
        text_methods: LoRA, adapters or Full() on the text tower.
        vision: a tower made of this BLIP before, with its methods, instead of a fresh one.
        options: further arguments of `RetrievalModel`.
    """
    parts: Any = blip
    if vision is None:
        vision = compose(vision_of(parts.vision_model), *methods, num_classes=0)
    text = CrossModalText(parts.text_encoder, enc_token, length)
    tune_text(text, *text_methods)
    if uniadapter is not None:
        put_on_vision(vision, text.add_uniadapter(uniadapter))
    model = RetrievalModel(
        vision, text, "itc+itm", loss, parts.vision_proj.out_features,
        **{"learn_temperature": False, **options},
    )  # fmt: skip
    copied: list[tuple[Any, Any]] = [
        (parts.vision_proj, model.towers.image_projection),
        (parts.text_proj, model.towers.text_projection),
        (parts.itm_head, model.itm_head),
    ]
    for source, target in copied:
        target.load_state_dict(source.state_dict())
    if model.follower is not None:
        for name in ("image_projection", "text_projection"):
            getattr(model.follower.towers, name).load_state_dict(getattr(model.towers, name).state_dict())
    return model


def vision_of(blip_vision: nn.Module) -> VisionTransformer:
    """transformers' BlipVisionModel as timm's Vision Transformer, without a classifier, weights copied."""
    config: Any = blip_vision.config
    if config.hidden_act != "gelu":
        raise ValueError(f"a BLIP vision tower with the activation {config.hidden_act!r} is not supported")
    vit = VisionTransformer(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.hidden_size,
        depth=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        mlp_ratio=(config.intermediate_size + 0.5) / config.hidden_size,
        num_classes=0,
        norm_layer=partial(nn.LayerNorm, eps=config.layer_norm_eps),
    )
    vit.pretrained_cfg = {  # type: ignore[assignment]  # timm types it as a tensor
        "mean": BLIP_MEAN,
        "std": BLIP_STD,
        "interpolation": "bicubic",
    }
    vit.load_state_dict(_renamed(blip_vision.state_dict()))
    like = next(blip_vision.parameters())
    return vit.to(like.device, like.dtype).eval()


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    fixed = {
        "embeddings.class_embedding": "cls_token",
        "embeddings.position_embedding": "pos_embed",
        "embeddings.patch_embedding.weight": "patch_embed.proj.weight",
        "embeddings.patch_embedding.bias": "patch_embed.proj.bias",
        "post_layernorm.weight": "norm.weight",
        "post_layernorm.bias": "norm.bias",
    }
    found = {}
    for name, value in weights.items():
        if name in fixed:
            found[fixed[name]] = value
            continue
        _, _, number, rest = name.split(".", 3)  # encoder.layers.N.
        part, kind = rest.rsplit(".", 1)
        found[f"blocks.{number}.{NAMES[part]}.{kind}"] = value
    return found
