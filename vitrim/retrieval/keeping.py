"""A trained retrieval model on disk: `vision.safetensors` (any `vitrim.load` opens it) and beside it
`model.safetensors` with the text tower's trained weights, projections and heads, and how to build the rest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from vitrim.bounds import Count, Name, Open, Text
from vitrim.files.saving import load, needs_its_backbone
from vitrim.files.saving import save as save_vision
from vitrim.reading import parse_json
from vitrim.retrieval.building import build
from vitrim.retrieval.captions import Tokenizer, WordTokenizer
from vitrim.retrieval.model import RetrievalModel
from vitrim.retrieval.plan import WORDS, RetrievalPlan
from vitrim.writing import write_whole

VISION_FILE, MODEL_FILE, HEADER = "vision.safetensors", "model.safetensors", "vitrim_retrieval"
BUILT_AGAIN = ("towers.vision.", "follower.", "queue.")  # saved beside, or of no use after training


class Words(Open):
    kind: Name
    source: Text = ""
    words: list[Name] = Field(default_factory=list, max_length=2_000_000)
    length: Count


class AboutRetrieval(Open):
    """The header of model.safetensors."""

    FORMAT: ClassVar[int] = 1
    format: int
    plan: dict[Name, Any]
    tokenizer: Words
    text_digest: Name


def save_retrieval(
    model: RetrievalModel, tokenizer: Tokenizer, plan: RetrievalPlan, folder: str | Path
) -> None:
    """Write both files; each appears whole or not at all, the one that names the other last."""
    place = Path(folder)
    save_vision(model.vision, place / VISION_FILE, include_backbone=needs_its_backbone(model.vision))
    about = {
        "format": AboutRetrieval.FORMAT,
        "plan": plan.to_json(),
        "tokenizer": tokenizer.to_json(),
        "text_digest": text_digest(model),
    }
    tensors = {name: value.cpu().contiguous() for name, value in kept_tensors(model).items()}
    write_whole(place / MODEL_FILE, to_bytes(tensors, metadata={HEADER: json.dumps(about)}))


def load_retrieval(folder: str | Path) -> tuple[RetrievalModel, Tokenizer, RetrievalPlan]:
    """The model that `save_retrieval` wrote, in evaluation mode, without momentum towers."""
    place = Path(folder)
    about, tensors = _read(place / MODEL_FILE)
    plan = RetrievalPlan.from_json(about["plan"], str(place / MODEL_FILE))
    vision = load(place / VISION_FILE)
    words = about["tokenizer"].get("words", [])
    inferred = replace(plan, loss=_without_momentum(plan))
    model, tokenizer = build(inferred, [" ".join(words)] if plan.text == WORDS else [], vision)
    if plan.text == WORDS:
        tokenizer = WordTokenizer(words, about["tokenizer"]["length"])
    if about["text_digest"] != text_digest(model):
        raise ValueError(
            f"the text tower in {plan.text!r} is not the one this model was trained with; put that back"
        )
    _fill(model, tensors, place / MODEL_FILE)
    return model.eval(), tokenizer, plan


def _without_momentum(plan: RetrievalPlan) -> str | None:
    """Momentum towers and queue are of no use after training; the other losses differ in what they save."""
    return "infonce" if plan.loss == "moco" or (plan.is_blip and plan.loss is None) else plan.loss


def is_retrieval_model(path: str | Path) -> bool:
    """Whether `save_retrieval` wrote into this folder."""
    file = Path(path) / MODEL_FILE
    if not file.is_file():
        return False
    try:
        with safe_open(file, framework="pt") as opened:
            return HEADER in (opened.metadata() or {})
    except (SafetensorError, OSError):
        return False


def kept_tensors(model: RetrievalModel) -> dict[str, Tensor]:
    """Of the checkpoint what stands in model.safetensors."""
    return {name: value for name, value in model.state().items() if not name.startswith(BUILT_AGAIN)}


def text_digest(model: RetrievalModel) -> str:
    """SHA-256 over the text tower's frozen weights."""
    running = hashlib.sha256()
    for name, value in sorted(model.text.named_parameters()):
        if not value.requires_grad:
            running.update(f"{name} {tuple(value.shape)}".encode())
            running.update(value.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return running.hexdigest()


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no {file}; give the folder of a finished retrieval run")
    try:
        with safe_open(file, framework="pt") as opened:
            header = (opened.metadata() or {}).get(HEADER)
            if header is None:
                raise ValueError(f"{file} is no retrieval model: vitrim train --task retrieval writes one")
            about = parse_json(header, AboutRetrieval, str(file))
            return about, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged and cannot be read: {error}") from None


def _fill(model: RetrievalModel, tensors: dict[str, Tensor], file: Path) -> None:
    """Put saved tensors in; nothing is written unless all of them fit."""
    wanted = kept_tensors(model)
    if odd := sorted(set(wanted) ^ set(tensors)):
        raise ValueError(f"{file} does not fit its own plan: they differ in {odd[0]}")
    for name, value in tensors.items():
        if value.shape != wanted[name].shape:
            shapes = f"{tuple(value.shape)}, the model {tuple(wanted[name].shape)}"
            raise ValueError(f"{file} does not fit its own plan: {name} has shape {shapes}")
    for name, value in tensors.items():
        wanted[name].copy_(value)
