"""What a retrieval run is told, as text and numbers, and the model that comes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from vitrim.checks import check_one_of
from vitrim.methods.notation import parse_method
from vitrim.retrieval.asked import CARRIERS
from vitrim.retrieval.model import HEADS, LOSSES
from vitrim.settings.training import Training

WORDS = "words"
CLIP, BLIP = CARRIERS
DEFAULTS = Training(epochs=30, batch_size=32, lr=5e-4, weight_decay=0.05, decayed="matrices")
USED = (
    "epochs", "batch_size", "drop_last", "optimizer", "momentum", "lr", "lr_batch", "min_lr", "warmup_epochs",
    "warmup_lr", "schedule", "lr_updates", "weight_decay", "decayed", "clip_grad", "augment", "policy",
    "colour_jitter", "erasing", "normalise", "interpolation", "test_crop", "precision",
    "gradient_checkpointing", "deterministic", "seed", "workers", "bad_images",
)  # fmt: skip


@dataclass(frozen=True)
class RetrievalPlan:
    """Everything that decides the outcome of a retrieval run.

    Attributes:
        data: "retrieval:FILE".
        model, pretrained, weights, image_size: the vision tower, as for `vitrim.compose`; BLIP brings
        its own. methods: on the vision tower, as text.
        text: "words" (a small tower over the training captions' words, trained from nothing), a folder or
            Hub name of a text encoder of transformers with its tokenizer, or "clip:FOLDER" or
            "blip:FOLDER", which bring both towers and their projections.
        text_methods: on a text tower of transformers: LoRA(...), Adapter(form='sequential'), Full(); none
            leaves it frozen.
        uniadapter: width of UniAdapter's bottlenecks on both towers of BLIP; None for none.
        head, loss, queue, proj_dim: as for `RetrievalModel`; None takes what the text tower is for.
    """

    data: str
    model: str | None = None
    methods: tuple[str, ...] = ()
    text: str = WORDS
    text_methods: tuple[str, ...] = ()
    uniadapter: int | None = None
    head: str | None = None
    loss: str | None = None
    queue: int = 57_600
    proj_dim: int = 256
    pretrained: bool = False
    weights: str | None = None
    image_size: tuple[int, int] | None = None
    root: str | None = None
    length: int = 35
    training: Training = DEFAULTS

    def __post_init__(self) -> None:
        for name in ("methods", "text_methods"):
            parsed = [parse_method(text) for text in getattr(self, name)]
            object.__setattr__(self, name, tuple(map(repr, parsed)))
        if self.head is not None:
            check_one_of("retrieval", "head", self.head, HEADS)
        if self.loss is not None:
            check_one_of("retrieval", "loss", self.loss, LOSSES)
        if self.text.startswith(CARRIERS):
            brought = [name for name in ("model", "pretrained", "weights") if getattr(self, name)]
            if brought:
                raise ValueError(f"{self.text} brings its own vision tower; leave out {brought[0]}")
            own = "itc+itm" if self.is_blip else "itc"
            if self.head not in (None, own):
                raise ValueError(f"{self.text} has the head {own!r}; leave head out")
        if self.uniadapter is not None and not self.is_blip:
            raise ValueError("uniadapter needs both towers of BLIP: text='blip:FOLDER'; use other methods")
        if self.text == WORDS and self.text_methods:
            raise ValueError("the tower of words is trained whole; text_methods go with text=FOLDER")
        _check_unused(self.training)

    @property
    def is_blip(self) -> bool:
        return self.text.startswith(BLIP)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "training": self.training.to_json()}

    @staticmethod
    def from_json(values: Mapping[str, Any], where: str = "this retrieval run") -> RetrievalPlan:
        """The inverse of `to_json`, of a file that anybody may have written; other keys are left alone."""
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(RetrievalPlan).validate_json(json.dumps(values))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))[:60] or "content"
            said = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
            raise ValueError(f"the plan of {where} is damaged: its {field}: {said}") from None


def with_training(changes: Mapping[str, object] | Training | None) -> Training:
    """The settings of a retrieval run with some changed."""
    if isinstance(changes, Training):
        return changes
    return DEFAULTS.changed(changes or {})


def _check_unused(training: Training) -> None:
    plain = Training()
    names = [field.name for field in fields(Training) if field.name not in USED]
    changed = [name for name in names if getattr(training, name) != getattr(plain, name)]
    if changed:
        raise ValueError(f"retrieval has no use for the setting {changed[0]}; leave it out")
