"""What training settings may be: every refusal is one sentence that names the setting and what it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vitrim.settings.training_choices import CHOICES

if TYPE_CHECKING:
    from vitrim.settings.training import Training

FLAGS = ("drop_last", "gradient_checkpointing", "cache_frozen", "deterministic")
AT_LEAST_ONE = ("epochs", "batch_size", "accumulate")
AT_LEAST_ZERO = ("seed", "bad_images", "cooldown_epochs", "frozen_epochs", "bad_images")
NOT_NEGATIVE = ("lr", "min_lr", "warmup_lr", "weight_decay", "distil", "colour_jitter", "mixup", "cutmix")
SHARES = ("label_smoothing", "drop_path", "momentum", "erasing")


def check_training(training: Training) -> None:
    """Refuse settings that mean nothing, alone or together."""
    for name in AT_LEAST_ONE:
        _check_whole(name, getattr(training, name), least=1)
    for name in AT_LEAST_ZERO:
        _check_whole(name, getattr(training, name), least=0)
    if training.seed >= 2**32:
        raise ValueError(f"seed must be below 2**32 (4,294,967,296), got {training.seed}")
    for name, least in (("workers", 0), ("patience", 1), ("lr_batch", 1)):
        if getattr(training, name) is not None:
            _check_whole(name, getattr(training, name), least=least)
    for name in NOT_NEGATIVE:
        _check_number(name, getattr(training, name), least=0.0)
    for name in SHARES:
        _check_number(name, getattr(training, name), least=0.0, below=1.0)
    for name in FLAGS:
        if not isinstance(getattr(training, name), bool):
            raise ValueError(f"{name} must be true or false, got {getattr(training, name)!r}")
    for name, choices in CHOICES.items():
        given = getattr(training, name)
        if given not in choices and not (name == "select" and given is None):
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {given!r}")
    _check_optional(training)
    _check_channels(training)
    _check_texts(training)
    _check_curve(training)
    _check_together(training)


def _check_optional(training: Training) -> None:
    if training.clip_grad is not None:
        _check_number("clip_grad", training.clip_grad, least=0.0, exclusive=True)
    if training.ema is not None:
        _check_number("ema", training.ema, least=0.0, below=1.0, exclusive=True)
    for name in ("test_crop", "layer_decay"):
        value = getattr(training, name)
        if value is None:
            continue
        _check_number(name, value, least=0.0, exclusive=True)
        if value > 1:
            raise ValueError(f"{name} must be above 0 and at most 1, got {value!r}")
    if training.rates is not None:
        if not isinstance(training.rates, Mapping) or not training.rates:
            raise ValueError(
                f'rates must name parts and their multiples, such as {{"head": 10}}, got {training.rates!r}'
            )
        for part, value in training.rates.items():
            if not isinstance(part, str) or not part:
                raise ValueError(f"rates must name parts of the model, got {part!r}")
            _check_number(f"rates[{part!r}]", value, least=0.0)


def _check_channels(training: Training) -> None:
    if training.full_scale is not None:
        _check_number("full_scale", training.full_scale, least=0.0, exclusive=True)
    for name in ("mean", "std"):
        values = getattr(training, name)
        if (values is None) == (training.normalise == "given"):
            raise ValueError(
                f"normalise=given takes mean and std, but {name} is not given"
                if values is None
                else f"{name} goes with normalise=given, and normalise is {training.normalise}"
            )
        if values is None:
            continue
        if not isinstance(values, list) or not values:
            raise ValueError(f"{name} must be a list of numbers, one for each channel, got {values!r}")
        for value in values:
            _check_number(name, value, least=0.0 if name == "std" else -math.inf, exclusive=name == "std")


def _check_texts(training: Training) -> None:
    if not isinstance(training.train_split, str) or not training.train_split:
        raise ValueError(f"train_split must be the name of a split, got {training.train_split!r}")
    split = training.test_split
    if split is not None and (not isinstance(split, str) or not split):
        raise ValueError(f"test_split must be the name of a split, got {split!r}")
    teacher = training.teacher
    if teacher is not None and (not isinstance(teacher, str) or not teacher):
        raise ValueError(f"teacher must be the path of a run or a saved model, got {teacher!r}")
    if not isinstance(training.policy, str) or not training.policy.startswith("rand"):
        raise ValueError(
            f"policy must be timm's text for RandAugment, such as rand-m9-mstd0.5, got {training.policy!r}"
        )


def _check_curve(training: Training) -> None:
    if training.min_lr > training.peak:
        scaled = "" if training.lr_batch is None else f" scaled to the batch, {training.peak:g}"
        raise ValueError(f"min_lr ({training.min_lr:g}) must not be above lr ({training.lr:g}{scaled})")
    if training.warmup_epochs is not None:
        _check_number("warmup_epochs", training.warmup_epochs, least=0.0)
        if training.warmup_epochs > training.epochs:
            raise ValueError(
                f"warmup_epochs ({training.warmup_epochs:g}) must not be above epochs ({training.epochs}); "
                "give a smaller one, or null to warm up over a tenth of the epochs"
            )


def _check_together(training: Training) -> None:
    if training.class_weights == "balanced" and training.sampler == "balanced":
        raise ValueError(
            "class_weights=balanced and sampler=balanced correct the same imbalance twice; choose one"
        )
    mixes = training.mixup > 0 or training.cutmix > 0
    if mixes and training.batch_size % 2:
        raise ValueError(
            "mixup and cutmix pair the images of a batch, so batch_size must be even, "
            f"got {training.batch_size}"
        )
    if mixes and not training.drop_last:
        raise ValueError("mixup and cutmix pair the images of a batch; they need drop_last=true")


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _check_number(
    name: str, value: object, least: float, below: float = math.inf, exclusive: bool = False
) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < least or value >= below or (exclusive and value == least):  # type: ignore[operator]
        bound = "" if least == -math.inf else f"above {least:g}" if exclusive else f"at least {least:g}"
        bound += f" and below {below:g}" if below < math.inf else ""
        raise ValueError(f"{name} must be a number{' ' * bool(bound)}{bound}, got {value!r}")
