"""What a segmentation run is made of: a run's plan, and how patches come back and are decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitrim.checks import check_one_of
from vitrim.dense.saving import INFERENCE
from vitrim.dense.transforms import CHANGES
from vitrim.settings.run_plan import Asked, RunPlan, resume_plan, settle_plan
from vitrim.settings.training import Training

USUAL: dict[str, object] = {"batch_size": 16, "augment": "crop"}
"""training settings that segmentation has otherwise than classification where nobody asks"""
NOT_HERE = (
    "label_smoothing", "mixup", "cutmix", "class_weights", "sampler", "regression_loss", "teacher", "distil",
    "policy", "erasing", "test_crop", "head", "bad_images", "full_scale",
)  # fmt: skip
WITHOUT = {"none": "fit", "flip": "flip", "crop": "crop"}


@dataclass(frozen=True)
class DensePlan:
    """Everything that decides the outcome of a segmentation run, as text and numbers."""

    plan: RunPlan
    restore: str = "delta"
    taps: tuple[int, ...] | None = None
    decoder: str = "linear"
    inference: str = "slide"

    def to_json(self) -> dict[str, Any]:
        dense = {
            "restore": self.restore,
            "taps": None if self.taps is None else list(self.taps),
            "decoder": self.decoder,
            "inference": self.inference,
        }
        return {**self.plan.to_json(), "dense": dense}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> DensePlan:
        dense = stored["dense"]
        taps = dense["taps"]
        return DensePlan(
            RunPlan.from_json(stored), dense["restore"], None if taps is None else tuple(taps),
            dense["decoder"], dense["inference"],
        )  # fmt: skip

    @property
    def change(self) -> str:
        """The joint change of pictures and masks that the training settings ask for."""
        return WITHOUT[self.plan.training.augment]


@dataclass(frozen=True)
class AskedDense:
    """What the caller asked for; None everywhere means: not asked, take the default."""

    asked: Asked
    restore: str | None = None
    taps: Sequence[int] | None = None
    decoder: str | None = None
    inference: str | None = None

    def settings(self) -> dict[str, Any]:
        taps = None if self.taps is None else tuple(self.taps)
        values = {"restore": self.restore, "taps": taps, "decoder": self.decoder, "inference": self.inference}
        return {name: value for name, value in values.items() if value is not None}


def settle_dense(asked: AskedDense) -> DensePlan:
    """Fill in what was not asked for: methods as a recipe has them, training settings of segmentation."""
    if asked.asked.data is None:
        raise ValueError("segmentation needs data: seg:PATH, voc:PATH, ade20k:PATH, ...")
    if asked.asked.protocol is not None:
        raise ValueError(
            f"protocol {asked.asked.protocol!r} is of classification; give the settings of "
            "segmentation by name"
        )
    plan = settle_plan(asked.asked)
    if plan.video is not None:
        raise ValueError(
            "video is of clips; segmentation takes pictures, leave it out or choose other methods"
        )
    changes = {**USUAL, **asked.asked.training_changes()}
    training = Training().changed(changes)
    left_open = asked.asked.left_open()
    plan = replace(
        plan, training=training, protocol=None, left_open=left_open,
        root=plan.root or str(Path.cwd()), given=frozenset(changes) if left_open else frozenset(),
    )  # fmt: skip
    check_training_settings(training)
    found = DensePlan(plan, **asked.settings())
    check_one_of("segmentation", "inference", found.inference, INFERENCE)
    return found


def resume_dense(stored: DensePlan, asked: AskedDense) -> DensePlan:
    """The stored plan, unless something else was asked for."""
    resume_plan(stored.plan, asked.asked)
    for name, value in asked.settings().items():
        before = getattr(stored, name)
        if before != value:
            raise ValueError(
                f"this run was started with {name}={before!r}, so it cannot be resumed with {value!r}; "
                f"leave {name} out to resume, or start a new run in another folder"
            )
    return stored


def check_training_settings(training: Training) -> None:
    """Refuse settings that mean nothing for masks."""
    usual = Training()
    for name in NOT_HERE:
        given = getattr(training, name)
        if given != getattr(usual, name):
            raise ValueError(
                f"{name}={given} is of whole pictures and has no meaning for masks; leave it out for "
                "segmentation"
            )
    if training.cache_frozen:
        raise ValueError(
            "cache_frozen keeps what a classifier or the last blocks read of every image, but segmentation "
            "changes pictures and masks together and reads several blocks; leave it out"
        )
    if training.normalise == "measured":
        raise ValueError(
            "normalise=measured is not there for segmentation; measure mean and std once and give them with "
            "normalise=given"
        )
    if training.augment not in WITHOUT:
        raise ValueError(
            f"augment={training.augment} has no form for pictures and masks together; take "
            f"{', '.join(WITHOUT)} ({', '.join(CHANGES)})"
        )
