"""Which epoch's weights a run keeps, and when it stops early.

By validation images where some are held out, the last epoch otherwise, or, by name only, the epoch that does
best on the test images, as most papers print it: then every result carries the mark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from vitrim.settings.task_kinds import score_of
from vitrim.settings.training import Training
from vitrim.settings.training_choices import Select

SCORED_BY = {"val": "val", "best-on-test": "test"}
NOTHING = (-math.inf, 0.0)  # below every score
MARKS = {"best-on-test": "best on test"}


class HasSplits(Protocol):
    """Data with named splits, of whatever."""

    @property
    def spec(self) -> str: ...

    @property
    def splits(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Picked:
    """What the epochs so far came to. Epochs count from 1; 0 before there is any. Of equally accurate epochs
    the one with the lower loss is better; of other tasks than classes see `score_of`.
    """

    last: int = 0
    epoch: int = 0
    score: tuple[float, float] = NOTHING
    val_epoch: int = 0
    val_score: tuple[float, float] = NOTHING

    def after(self, row: Mapping[str, Any], select: Select) -> Picked:
        """The same with one more row of the history."""
        found = replace(self, last=row["epoch"])
        score = None if select == "last" else score_of(row, SCORED_BY[select])
        if score is not None and score > tuple(self.score):
            found = replace(found, epoch=row["epoch"], score=score)
        score = score_of(row, "val")
        if score is not None and score > tuple(self.val_score):
            found = replace(found, val_epoch=row["epoch"], val_score=score)
        return found

    def waited_enough(self, training: Training) -> bool:
        """Whether validation has not improved for as many epochs as the settings allow."""
        return training.patience is not None and self.last - self.val_epoch >= training.patience

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def tested_split(source: HasSplits, training: Training) -> str:
    """The split the finished model is measured on; refused where it would be trained on the same images."""
    split = training.test_split or ("test" if "test" in source.splits else "val")
    trained = {"trainval": ("trainval", "train", "val")}.get(training.train_split, (training.train_split,))
    if split in trained:
        missing = training.test_split is None and split == "val"
        why = f"{source.spec} has no test split, so" if missing else f"train_split={training.train_split!r}:"
        raise ValueError(
            f"{why} the model would be measured on {split} images, on which it is trained; train on "
            "others with train_split, or choose unseen ones with test_split"
        )
    return split


def settled_select(source: HasSplits, training: Training) -> Select:
    """How the kept epoch is chosen, with the default filled in; refused where its images are missing."""
    held_out = "val" in source.splits and training.train_split == "train"
    if not held_out and (training.select == "val" or training.patience is not None):
        asked = "select='val'" if training.select == "val" else f"patience={training.patience}"
        missing = "val" not in source.splits
        why = "has no val split" if missing else f"is trained on with its {training.train_split} split"
        advice = "use select='last'" if training.select == "val" else "leave it out"
        raise ValueError(f"{asked} needs validation images, but {source.spec} {why}; {advice}")
    if training.select == "best-on-test" and "test" not in source.splits:
        raise ValueError(
            f"select='best-on-test' needs test images, but {source.spec} has none; use select='val' or 'last'"
        )
    if training.select == "best-on-test" and training.test_split not in (None, "test"):
        raise ValueError(
            f"select='best-on-test' watches the test images, but test_split is {training.test_split!r}; "
            "leave one of the two out"
        )
    return training.select or ("val" if held_out else "last")
