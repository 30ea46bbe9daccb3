"""What a retrieval run is told, as text and numbers, and the model that comes of it."""

from __future__ import annotations

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
UNUSED = (
    "cooldown_epochs", "patience", "accumulate", "rates", "frozen_epochs", "layer_decay", "label_smoothing",
    "class_weights", "sampler", "regression_loss", "drop_path", "teacher", "distil", "mixup", "cutmix",
    "head", "ema", "train_split", "test_split", "select",
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
    def from_json(values: Mapping[str, Any]) -> RetrievalPlan:
        """The inverse of `to_json`; other keys are left alone."""
        known = {field.name for field in fields(RetrievalPlan)}
        given = {name: value for name, value in values.items() if name in known}
        for name in ("methods", "text_methods", "image_size"):
            if given.get(name) is not None:
                given[name] = tuple(given[name])
        stored = given.pop("training", {})
        names = {field.name for field in fields(Training)}
        training = Training(**{name: value for name, value in stored.items() if name in names})
        return RetrievalPlan(**given, training=training)


def with_training(changes: Mapping[str, object] | Training | None) -> Training:
    """The settings of a retrieval run with some changed."""
    if isinstance(changes, Training):
        return changes
    return DEFAULTS.changed(changes or {})


def _check_unused(training: Training) -> None:
    plain = Training()
    changed = [name for name in UNUSED if getattr(training, name) != getattr(plain, name)]
    if changed:
        raise ValueError(f"retrieval has no use for the setting {changed[0]}; leave it out")
