"""What the pretraining looks at when, and how fast it learns then."""

from __future__ import annotations

from typing import NamedTuple


class Stage(NamedTuple):
    """A stretch of training: image size, share of patches left out, number of batches."""

    size: int
    leave_out: float
    steps: int


STAGES = (Stage(48, 0.0, 1480), Stage(96, 0.67, 245), Stage(96, 0.0, 35))
STEPS = sum(stage.steps for stage in STAGES)


def stage_at(step: int) -> Stage:
    """The stage that step number `step` belongs to."""
    for stage in STAGES:
        if step < stage.steps:
            return stage
        step -= stage.steps
    return STAGES[-1]


def share(step: int, rise: int = 100, fall: float = 0.36) -> float:
    """The share of the learning rate at a step: linear rise, level, linear fall to zero.

    Not a cosine, because the change to full-size images comes late and still needs a rate to be learned with.
    """
    return min((step + 1) / rise, (1.0 - step / STEPS) / fall, 1.0)
