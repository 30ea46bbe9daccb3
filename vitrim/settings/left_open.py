"""What a run settles by itself where nobody asked: how long to train, by the number of images, and the
learning rate, by the number of steps.

Published rates belong to long runs: 100 epochs of 1,000 images. A shorter run that keeps such a rate ends far
from where it could be, so the rate rises as its steps get fewer:

    lr = published lr * published steps / steps, up to ten-fold, and with Adam up to 0.005

Where the classifier trains alone, which nothing can upset, twice that, up to 0.02. Where methods change the
backbone's own weights, a higher rate would undo what it knows: there the published one stays, and full
fine-tuning takes a tenth. Measured in docs/measurements.md. Longer runs keep the published rate. A protocol
asked for by name keeps both of its values, unless "auto" is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from vitrim.settings.protocols import find_protocol
from vitrim.settings.training import Training

if TYPE_CHECKING:
    from vitrim.settings.run_plan import RunPlan

AUTO = "auto"
CAN_BE_OPEN = ("epochs", "lr")
PASSES = 20_000  # images seen in a run of default length: a few minutes of a small backbone on a CPU
FEWEST, MOST = 5, 30  # epochs of default length
PUBLISHED_IMAGES = 1_000  # of a VTAB-1k task, for which the recipes' protocols were made
HIGHEST = 10.0  # multiple of a published rate
CEILING, CEILING_ALONE = 5e-3, 2e-2  # of Adam's rate, with a tuner and for the classifier alone
ALONE, FULL = 2.0, 0.1


def asked_open(changes: Mapping[str, object]) -> tuple[str, ...]:
    """The settings that were asked to be chosen; refused for those that cannot be."""
    found = tuple(name for name, value in changes.items() if value == AUTO)
    for name in found:
        if name not in CAN_BE_OPEN:
            raise ValueError(f"{name} cannot be 'auto'; only {' and '.join(CAN_BE_OPEN)} can")
    return found


def for_epochs(training: Training, epochs: object, given: Collection[str]) -> dict[str, object]:
    """The changes that make a run shorter or longer: warm-up and cool-down, where they are not given, keep
    their share of the epochs. None of them where `epochs` is no such number.
    """
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        return {}
    changes: dict[str, object] = {"epochs": epochs}
    share = epochs / training.epochs
    if training.warmup_epochs is not None and "warmup_epochs" not in given:
        changes["warmup_epochs"] = round(training.warmup_epochs * share, 2)
    if training.cooldown_epochs and "cooldown_epochs" not in given:
        changes["cooldown_epochs"] = round(training.cooldown_epochs * share)
    return changes


def choose_left_open(plan: RunPlan, images: int) -> tuple[RunPlan, dict[str, str]]:
    """The plan with numbers in place of what it leaves open, and why these, by setting."""
    training, why = plan.training, {}
    if "epochs" in plan.left_open:
        epochs = epochs_for(images)
        training = training.changed(for_epochs(training, epochs, plan.given))
        why["epochs"] = f"chosen for {images:,} images"
    if "lr" in plan.left_open:
        steps = steps_of(training, images)
        training = training.changed({"lr": rate_for(training, plan.methods, published_steps(plan), steps)})
        why["lr"] = f"chosen for {steps:,} steps"
    return replace(plan, training=training, left_open=()), why


def epochs_for(images: int) -> int:
    """Epochs of a run for which no length was asked."""
    return max(FEWEST, min(MOST, round(PASSES / max(images, 1))))


def rate_for(training: Training, methods: Collection[str], published: int, steps: int) -> float:
    """The learning rate for a run of so many steps, to two digits."""
    from vitrim.methods.notation import TUNERS, parse_method
    from vitrim.methods.tuners import Full, Linear

    tuners = [each for each in map(parse_method, methods) if type(each).__name__ in TUNERS]
    if any(isinstance(each, Full) for each in tuners):
        return float(f"{training.lr * FULL:.2g}")
    if any(each.trains_own for each in tuners):
        return training.lr
    alone = all(isinstance(each, Linear) for each in tuners)
    rate = training.lr * min(max(published / steps, 1.0), HIGHEST) * (ALONE if alone else 1.0)
    if training.optimizer != "sgd":
        rate = max(training.lr, min(rate, CEILING_ALONE if alone else CEILING))
    return float(f"{rate:.2g}")


def published_steps(plan: RunPlan) -> int:
    """The steps for which the rate was published."""
    theirs = Training() if plan.protocol is None else find_protocol(plan.protocol).training
    return steps_of(theirs, PUBLISHED_IMAGES)


def steps_of(training: Training, images: int) -> int:
    """Updates in a whole run."""
    batches = images / training.batch_size
    a_pass = math.floor(batches) if training.drop_last else math.ceil(batches)
    return max(1, training.all_epochs * a_pass // training.accumulate)
