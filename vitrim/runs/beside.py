"""What the files beside run.json may say, with bounds: history.jsonl, tested.json, checkpoints, .holder."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, FiniteFloat

from vitrim.bounds import MOST_EPOCHS, Epoch, Loss, Methods, Name, NotNegative, Open, Share, Text


class HistoryRow(Open):
    """A line of history.jsonl."""

    epoch: Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
    seconds: NotNegative
    train_loss: Loss = 0.0
    lr: NotNegative = 0.0
    bad_images: list[Text] = []
    val_loss: Loss = 0.0
    test_loss: Loss = 0.0
    val_top1: Share = 0.0
    test_top1: Share = 0.0
    val_mean_per_class: Share = 0.0
    test_mean_per_class: Share = 0.0
    val_map: Share | None = None
    test_map: Share | None = None
    val_r2: FiniteFloat | None = None
    test_r2: FiniteFloat | None = None
    val_miou: Share | None = None
    test_miou: Share | None = None


class Tested(Open):
    """tested.json."""

    FORMAT: ClassVar[int] = 1
    split: Name
    images: Annotated[int, Field(ge=1, le=50_000_000)]
    pictures: Name
    right: str


class Picked(Open):
    last: Epoch
    epoch: Epoch
    score: Annotated[tuple[float, float], Field(strict=False)]
    val_epoch: Epoch
    val_score: Annotated[tuple[float, float], Field(strict=False)]


class Checkpoint(Open):
    """checkpoints/epoch-*.pt"""

    FORMAT: ClassVar[int] = 1
    epoch: Epoch
    picked: Picked
    methods: Methods
    weights: dict[Name, Any]
    mean: dict[Name, Any] | None
    optimizer: dict[Name, Any]
    scaler: dict[Name, Any] | None


class Best(Open):
    """checkpoints/best-*.pt"""

    FORMAT: ClassVar[int] = 1
    weights: dict[Name, Any]


Told = Annotated[str, Field(max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")]  # it is shown on a terminal


class Holder(Open):
    """.holder: who holds the lock of a run folder."""

    pid: Annotated[int, Field(ge=1, le=2**31)]
    host: Told
    since: Told
