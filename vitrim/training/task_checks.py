"""Settings and methods that mean nothing for a kind of task, refused in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from vitrim.methods.tuners.dyt import DyT
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.settings.training import Training
from vitrim.training.fitting import Fitted, needs_classes


def check_task(model: StagedViT, training: Training) -> None:
    """Refuse what is made for another kind of task than the model's."""
    task = model.task
    if task == "classify":
        if training.regression_loss != "mse":
            raise ValueError(
                f"regression_loss={training.regression_loss} is for numbers to predict, but this data has "
                "classes; leave it out"
            )
    else:
        _check_settings(task, training)
        refuse_methods_of_classes(model.methods, f"a {task} task")
    complete = any(isinstance(method, DyT) and method.complete > 0 for method in model.methods)
    if complete and training.class_weights != "none":
        raise ValueError(
            "class_weights=balanced does not reach the loss of DyT's complete model; use DyT(complete=0.0) "
            "or sampler=balanced"
        )


def _check_settings(task: str, training: Training) -> None:
    given = {
        "label_smoothing": training.label_smoothing > 0 and "spreads a share of the target over classes",
        "mixup": training.mixup > 0 and "mixes classes",
        "cutmix": training.cutmix > 0 and "mixes classes",
        "teacher": training.teacher is not None and "compares the probabilities of classes",
        "sampler": training.sampler == "balanced" and "draws every class equally often",
    }
    if task == "regress":
        given["class_weights"] = training.class_weights != "none" and "weighs classes"
    else:
        given["regression_loss"] = training.regression_loss != "mse" and "is for numbers to predict"
    for name, why in given.items():
        if why:
            usual = getattr(Training, name)
            shown = "null" if usual is None else usual
            raise ValueError(
                f"{name}={getattr(training, name)} {why}, which a {task} task does not have; give "
                f"{name}={shown} (a recipe or protocol may bring it)"
            )


def refuse_methods_of_classes(methods: Sequence[Method], what: str) -> None:
    """Refuse methods that choose, or learn, by the classes of whole pictures, for `what` has none."""
    for method in methods:
        if needs_classes(method):
            raise ValueError(
                f"{type(method).__name__} chooses by the loss of classes of whole pictures, which {what} "
                "does not have; use another method, or name what it would choose"
            )
        if isinstance(method, DyT) and method.complete > 0:
            raise ValueError(
                "DyT compares with the class probabilities of its complete model, which "
                f"{what} does not have; use DyT(complete=0.0)"
            )


def refuse_unfitted(methods: Sequence[Method], what: str) -> None:
    """Refuse methods that have yet to choose by images, where `what` trains without letting them."""
    for method in methods:
        if isinstance(method, Fitted) and not method.settled:
            raise ValueError(
                f"{method!r} is fitted on training images, which {what} does not do; use budget='fixed' and "
                "name the blocks"
            )
