"""A folder that `from_pretrained` of transformers takes: config, weights, image processor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vitrim.backbones.support import TimmModule
from vitrim.backbones.transformers_forms import FORMS, config_of, kind_of
from vitrim.backbones.weights.renaming import renamed
from vitrim.deploy.plain_weights import Written, strictly
from vitrim.network.model import StagedViT

PROBLEMS = {
    "classify": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regress": "regression",
}
RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}  # Pillow's numbers


class Answer(nn.Module):
    """transformers' model as a function of images: one of its outputs, of tokens the class token or the
    patches' average."""

    def __init__(self, model: nn.Module, output: str, plain: TimmModule) -> None:
        super().__init__()
        self.model, self.output = model, output
        self.average_from = plain.num_prefix_tokens if plain.global_pool == "avg" else None

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = getattr(self.model(pixel_values=images), self.output)
        if self.output != "last_hidden_state":
            return answer
        return answer[:, 0] if self.average_from is None else answer[:, self.average_from :].mean(1)

    def in_words(self) -> str:
        """How to read the same from its answer."""
        if self.output != "last_hidden_state":
            return f".{self.output}"
        which = "0]" if self.average_from is None else f"{self.average_from}:].mean(1)"
        return f".last_hidden_state[:, {which}"


def write(plain: TimmModule, staged: StagedViT, about: dict[str, Any], part: Path) -> Written:
    """Write the folder, and open it with transformers."""
    try:
        import transformers
    except ModuleNotFoundError:
        raise ValueError("--to transformers needs it; pip install 'vitrim[transformers]'") from None
    called = f"this {about['backbone']}"
    kind = kind_of(plain)
    if not kind:
        raise ValueError(
            f"transformers has no form for {called}: it has none of timm's {type(plain).__name__}"
        )
    form = FORMS[kind]
    name = form.classifier if plain.num_classes else form.bare
    if not name:
        what = "with a classifier" if plain.num_classes else "without a classifier"
        raise ValueError(
            f"transformers has no form for {called}: its model of type {kind} has no form {what}"
        )
    made = getattr(transformers, name)
    extra = {} if plain.num_classes else dict.fromkeys(form.without_head, False)
    with _quiet(transformers), strictly("transformers", about["backbone"]):
        config = getattr(transformers, form.config)(**config_of(plain, kind), **_labels(plain, about))
        theirs = made(config, **extra).eval()
        theirs.load_state_dict(renamed(plain.state_dict(), theirs.state_dict(), called, "transformers"))
        theirs.save_pretrained(part)
        for weights in part.glob("*.safetensors"):  # which safetensors keeps from everybody else
            weights.chmod((part / "config.json").stat().st_mode)
        _processor(transformers, about["preprocess"]).save_pretrained(part)
        opened, report = made.from_pretrained(part, local_files_only=True, output_loading_info=True, **extra)
    if wrong := [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]:
        raise ValueError(f"transformers does not find {wrong[0]} in what was written for {called}")
    answer = Answer(opened.eval(), form.logits if plain.num_classes else form.output, plain)
    return Written(
        answer, f"transformers.{name}.from_pretrained(FILE)(pixel_values=images){answer.in_words()}"
    )


def _labels(plain: TimmModule, about: dict[str, Any]) -> dict[str, Any]:
    if not plain.num_classes:
        return {}
    names = about["classes"] or [f"LABEL_{index}" for index in range(plain.num_classes)]
    task = about["task"]["kind"]
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": PROBLEMS[task],
    }


def _processor(transformers: Any, preprocess: dict[str, Any]) -> Any:
    """What makes the same of a picture as vitrim does: resized straight, or a part cut out of the middle."""
    height, width = preprocess["image_size"]
    size = {"height": height, "width": width}
    common = {
        "image_mean": list(preprocess["mean"]),
        "image_std": list(preprocess["std"]),
        "resample": RESAMPLE[preprocess["interpolation"]],
    }
    if preprocess["crop"] == 1.0:
        return transformers.ViTImageProcessor(size=size, **common)
    shortest = math.floor(min(height, width) / preprocess["crop"])
    return transformers.CLIPImageProcessor(
        size={"shortest_edge": shortest}, crop_size=size, do_convert_rgb=True, **common
    )


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Loading bars and remarks are for those who load a model themselves."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
