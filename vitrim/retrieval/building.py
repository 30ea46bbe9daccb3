"""From a plan to a model: towers opened, tuned and put together, random parts drawn from the seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from vitrim.backbones.names import BUNDLED
from vitrim.backbones.preprocess import as_asked
from vitrim.compose import compose
from vitrim.network.model import StagedViT
from vitrim.retrieval.captions import Tokenizer, TransformersTokenizer, WordTokenizer
from vitrim.retrieval.extras import opened
from vitrim.retrieval.model import RetrievalModel
from vitrim.retrieval.plan import BLIP, CLIP, WORDS, RetrievalPlan
from vitrim.retrieval.text import TextTower, TransformersText, WordTower
from vitrim.retrieval.text_tuning import tune_text
from vitrim.training.task_checks import refuse_methods_of_classes, refuse_unfitted

OWN_TEXT_CLASS = {"clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel"}
OWN_TEXT_CLASS |= {"siglip": "SiglipTextModel", "siglip_text_model": "SiglipTextModel"}


def build(
    plan: RetrievalPlan, captions: Sequence[str], vision: StagedViT | None = None
) -> tuple[RetrievalModel, Tokenizer]:
    """A fresh model and its tokenizer. `captions` are those to train on, whose words a tower of words
    knows; a `vision` tower that is there already is taken as it is."""
    from accelerate.utils import set_seed

    set_seed(plan.training.seed)
    if plan.is_blip:
        model, tokenizer = _blip(plan, vision)
    elif plan.text.startswith(CLIP):
        model, tokenizer = _clip(plan, vision)
    else:
        tower = vision or compose(
            plan.model or BUNDLED,
            *plan.methods,
            num_classes=0,
            pretrained=plan.pretrained,
            weights=plan.weights,
            image_size=plan.image_size,
        )
        text, tokenizer = open_text(plan, captions)
        loss = plan.loss or "infonce"
        model = RetrievalModel(tower, text, plan.head or "itc", loss, plan.proj_dim, queue=plan.queue)
    settings, seen = plan.training, model.vision
    if vision is None:
        refuse_methods_of_classes(seen.methods, "retrieval")
        refuse_unfitted(seen.methods, "retrieval")
        seen.preprocess = as_asked(
            seen.preprocess, settings.normalise, settings.interpolation, settings.test_crop
        )
    seen.set_gradient_checkpointing(settings.gradient_checkpointing)
    return model, tokenizer


def open_text(plan: RetrievalPlan, captions: Sequence[str]) -> tuple[TextTower, Tokenizer]:
    """The text tower of a plan and its tokenizer."""
    if plan.text == WORDS:
        words = WordTokenizer.of(captions, plan.length)
        return WordTower(len(words), length=plan.length), words
    tokenizer = open_tokenizer(plan.text, plan.length)
    tower = TransformersText(_text_model(plan.text), length=plan.length)
    return tune_text(tower, *plan.text_methods), tokenizer


def open_tokenizer(source: str, length: int) -> TransformersTokenizer:
    """The tokenizer of a folder or a name of the Hub."""
    return TransformersTokenizer(opened("AutoTokenizer", source, "tokenizer"), source, length)


def _text_model(source: str) -> nn.Module:
    kind = OWN_TEXT_CLASS.get(opened("AutoConfig", source, "config.json").model_type, "AutoModel")
    return opened(kind, source, "text encoder", use_safetensors=True)


def _blip(plan: RetrievalPlan, vision: StagedViT | None) -> tuple[RetrievalModel, Tokenizer]:
    from vitrim.retrieval.blip import from_blip, open_blip
    from vitrim.retrieval.uniadapter import UniAdapter

    folder = plan.text.removeprefix(BLIP)
    tokenizer = open_tokenizer(folder, plan.length)
    blip: Any = open_blip(folder)
    added = tokenizer.tokenizer.get_added_vocab().get("[ENC]")
    last = blip.config.text_config.vocab_size - 1
    model = from_blip(
        blip, *plan.methods, vision=vision, text_methods=plan.text_methods, loss=plan.loss or "moco",
        uniadapter=None if plan.uniadapter is None else UniAdapter(plan.uniadapter),
        enc_token=last if added is None else added, length=plan.length, queue=plan.queue,
    )  # fmt: skip
    return model, tokenizer


def _clip(plan: RetrievalPlan, vision: StagedViT | None) -> tuple[RetrievalModel, Tokenizer]:
    from vitrim.retrieval.clip import from_clip

    source = plan.text.removeprefix(CLIP)
    folder = source if Path(source).expanduser().is_dir() else f"hf-hub:{source}"
    model = from_clip(
        folder, *plan.methods, vision=vision, text_methods=plan.text_methods, length=plan.length,
        loss=plan.loss, queue=plan.queue,
    )  # fmt: skip
    return model, open_tokenizer(source, model.text.length)
