"""CLIP and SigLIP as carriers: both towers of a folder that transformers wrote, or of the Hub.

The image encoder becomes a timm Vision Transformer as `vitrim.compose` reads one from such a folder, so it
takes any tuner and reducer; the text encoder stays transformers' own. SigLIP has no projections of its own
beyond its poolings: here they start as the identity.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitrim.backbones.repositories import HUB
from vitrim.compose import compose
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.retrieval.extras import opened
from vitrim.retrieval.model import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, RetrievalModel
from vitrim.retrieval.text import TransformersText
from vitrim.retrieval.text_tuning import tune_text

KINDS = {"clip": ("CLIPModel", "infonce"), "siglip": ("SiglipModel", "siglip")}


def from_clip(
    source: str,
    *methods: Method | str,
    text_methods: tuple[Method | str, ...] = (),
    vision: StagedViT | None = None,
    loss: str | None = None,
    length: int | None = None,
    **options: Any,
) -> RetrievalModel:
    """A `RetrievalModel` that finds what CLIP or SigLIP finds, before anything trains.

    Args:
        source: a folder with config.json and model.safetensors of `CLIPModel` or `SiglipModel`, or
            "hf-hub:OWNER/NAME".
        methods: for the vision tower.
        text_methods: LoRA, adapters or Full() on the text tower.
        vision: a tower made of this model before, with its methods, instead of a fresh one.
        loss: None takes the model's own: "infonce" or "siglip".
        length: tokens of a caption; None takes what the text tower was trained with, and SigLIP, which
        reads
            padding like words, takes nothing else.
        options: further arguments of `RetrievalModel`.
    """
    place = source.removeprefix(HUB[0])
    kind = opened("AutoConfig", place, "config.json").model_type
    if kind not in KINDS:
        raise ValueError(f"{place!r} is a {kind}, not one of {', '.join(KINDS)}; give text and model apart")
    name, own_loss = KINDS[kind]
    whole: Any = opened(name, place, "model of images and text", use_safetensors=True)
    if vision is None:
        vision = compose(source, *methods, num_classes=0)
    tower = TransformersText(whole.text_model, length=None if kind == "siglip" else length)
    text = tune_text(tower, *text_methods)
    temperature = float((-whole.logit_scale.detach()).exp())
    start = min(max(temperature, LOWEST_TEMPERATURE), HIGHEST_TEMPERATURE)  # where training would keep it
    projections = _projections(whole, kind, vision, text.width)
    model = RetrievalModel(
        vision, text, "itc", loss or own_loss, len(projections[0]), **{"temperature": start, **options}
    )
    towers = [model.towers] if model.follower is None else [model.towers, model.follower.towers]
    with torch.no_grad():
        for each in towers:
            for ours, theirs in zip((each.image_projection, each.text_projection), projections, strict=True):
                ours.weight.copy_(theirs)
                ours.bias.zero_()
        if model.bias is not None and kind == "siglip":
            model.bias.copy_(whole.logit_bias.reshape(()))
    return model


def _projections(whole: Any, kind: str, vision: StagedViT, width: int) -> tuple[Tensor, Tensor]:
    """From what each tower pools to the space where they meet."""
    if kind == "clip":
        return whole.visual_projection.weight, whole.text_projection.weight
    if vision.vit.num_features != width:
        raise ValueError(
            f"SigLIP's towers meet without projections, but are {vision.vit.num_features} and {width} wide"
        )
    return torch.eye(width), torch.eye(width)
