"""CLIP as a carrier: both towers and projections of a folder that transformers wrote, or of the Hub.

The image encoder becomes a timm Vision Transformer as `vitrim.compose` reads one from such a folder, so it
takes any tuner and reducer; the text encoder stays transformers' own.
"""

from __future__ import annotations

from typing import Any

import torch

from vitrim.backbones.repositories import HUB
from vitrim.compose import compose
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.retrieval.extras import opened
from vitrim.retrieval.model import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, RetrievalModel
from vitrim.retrieval.text import TransformersText
from vitrim.retrieval.text_tuning import tune_text


def from_clip(
    source: str,
    *methods: Method | str,
    text_methods: tuple[Method | str, ...] = (),
    vision: StagedViT | None = None,
    loss: str = "infonce",
    length: int | None = None,
    **options: Any,
) -> RetrievalModel:
    """A `RetrievalModel` that finds what CLIP finds, before anything trains.

    Args:
        source: a folder with config.json and model.safetensors of `CLIPModel`, or "hf-hub:OWNER/NAME".
        methods: for the vision tower.
        text_methods: LoRA, adapters or Full() on the text tower.
        vision: a tower made of this CLIP before, with its methods, instead of a fresh one.
        length: tokens of a caption; None takes what the text tower was trained with.
        options: further arguments of `RetrievalModel`.
    """
    clip: Any = opened("CLIPModel", source.removeprefix(HUB[0]), "CLIP model", use_safetensors=True)
    if vision is None:
        vision = compose(source, *methods, num_classes=0)
    text = tune_text(TransformersText(clip.text_model, "last", length), *text_methods)
    temperature = float((-clip.logit_scale.detach()).exp())
    start = min(max(temperature, LOWEST_TEMPERATURE), HIGHEST_TEMPERATURE)  # where it would train to be kept
    model = RetrievalModel(
        vision, text, "itc", loss, clip.projection_dim, **{"temperature": start, **options}
    )  # fmt: skip
    towers = [model.towers] if model.follower is None else [model.towers, model.follower.towers]
    with torch.no_grad():
        for each in towers:
            for ours, theirs in (
                (each.image_projection, clip.visual_projection),
                (each.text_projection, clip.text_projection),
            ):
                ours.weight.copy_(theirs.weight)
                ours.bias.zero_()
    return model
