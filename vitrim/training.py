"""Every training setting, as data: one frozen dataclass and the learning-rate curve it describes.

A recipe carries a `Training`; `vitrim train` turns each field into an option of the same name; the run folder
stores it. Nothing here imports torch, so the command line can read names, defaults and explanations without
waiting.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, get_args

from vitrim.checks import did_you_mean

Schedule = Literal["cosine", "constant", "release"]
Augment = Literal["none", "flip", "crop", "rand"]
Precision = Literal["no", "bf16", "fp16"]
Select = Literal["last", "best-val"]


@dataclass(frozen=True)
class Training:
    """How to train. The defaults are the recipe that most papers share on VTAB-1K."""

    epochs: int = 100
    """how many times to go through the training images"""
    batch_size: int = 64
    """images per step and per device"""
    lr: float = 1e-3
    """highest learning rate of AdamW, reached when the warm-up ends"""
    min_lr: float = 1e-5
    """learning rate the cosine ends at"""
    warmup_epochs: float | None = None
    """epochs over which the learning rate rises in a straight line; not given: a tenth of the epochs"""
    warmup_lr: float = 1e-6
    """learning rate the warm-up starts from"""
    schedule: Schedule = "cosine"
    """cosine: falls from lr to min_lr, set at every step; constant: stays at lr after the warm-up; release:
    as the papers' released code runs it (set once per epoch and one epoch late, so lr itself is never
    reached)
    """
    weight_decay: float = 1e-4
    """AdamW's weight decay, on every trained parameter"""
    label_smoothing: float = 0.0
    """share of the target spread evenly over all classes, 0 to below 1"""
    clip_grad: float | None = None
    """largest norm of the gradient, longer ones are scaled down; not given: no limit"""
    drop_path: float = 0.0
    """chance to skip a residual branch of the last block in training; the first block skips none"""
    teacher: str | None = None
    """run folder or saved model of the same classes to learn from, such as a run without reduction; its class
    probabilities and, where the methods learn to mask patches, its patches are added to the loss
    """
    distil: float = 0.5
    """weight of each of the terms a teacher adds, 0 or more"""
    augment: Augment = "none"
    """random changes of training images: none, flip (left-right), crop (random crop and flip), rand
    (RandAugment)
    """
    drop_last: bool = True
    """leave out the last batch of an epoch when it is not full"""
    precision: Precision = "no"
    """number format of the forward pass: no (float32), bf16 or fp16 (needs a GPU)"""
    accumulate: int = 1
    """batches whose gradients are summed before each update"""
    gradient_checkpointing: bool = False
    """compute activations twice to save memory"""
    seed: int = 42
    """start of all randomness: fresh weights, image order, augmentation, dropout"""
    train_split: str = "train"
    """images to train on: train, or trainval where the data has it (then nothing is left to validate on)"""
    select: Select = "last"
    """which epoch's weights are kept: last, or best-val (highest accuracy on the val split)"""
    workers: int | None = None
    """processes that read images; not given: none on a small CPU machine, up to 8 otherwise"""
    bad_images: int = 10
    """most training images per epoch that may be unreadable and are replaced by others; 0: none"""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            _check_whole(name, getattr(self, name), least=1)
        _check_whole("seed", self.seed, least=0)
        if self.workers is not None:
            _check_whole("workers", self.workers, least=0)
        _check_whole("bad_images", self.bad_images, least=0)
        for name in ("lr", "min_lr", "warmup_lr", "weight_decay", "distil"):
            _check_number(name, getattr(self, name), least=0.0)
        for name in ("label_smoothing", "drop_path"):
            _check_number(name, getattr(self, name), least=0.0, below=1.0)
        if self.clip_grad is not None:
            _check_number("clip_grad", self.clip_grad, least=0.0, exclusive=True)
        for name in ("drop_last", "gradient_checkpointing"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                allowed = ", ".join(choices)
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if not isinstance(self.train_split, str) or not self.train_split:
            raise ValueError(f"train_split must be the name of a split, got {self.train_split!r}")
        if self.teacher is not None and (not isinstance(self.teacher, str) or not self.teacher):
            raise ValueError(f"teacher must be the path of a run or a saved model, got {self.teacher!r}")
        self._check_curve()

    def _check_curve(self) -> None:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr ({self.min_lr:g}) must not be above lr ({self.lr:g})")
        if self.warmup_epochs is not None:
            _check_number("warmup_epochs", self.warmup_epochs, least=0.0)
            if self.warmup_epochs > self.epochs:
                raise ValueError(
                    f"warmup_epochs ({self.warmup_epochs:g}) must not be above epochs ({self.epochs}); "
                    "leave it out to warm up over a tenth of the epochs"
                )

    @property
    def warmup(self) -> float:
        """Epochs of warm-up, with the default filled in."""
        return self.epochs / 10 if self.warmup_epochs is None else self.warmup_epochs

    def learning_rate(self, progress: float) -> float:
        """The learning rate after `progress` epochs (2.5 is the middle of the third)."""
        if self.schedule == "release":
            return self._release_rate(int(progress))
        if progress < self.warmup:
            return self.warmup_lr + (self.lr - self.warmup_lr) * progress / self.warmup
        if self.schedule == "constant" or self.epochs == self.warmup:
            return self.lr
        done = (progress - self.warmup) / (self.epochs - self.warmup)
        return self._cosine(done)

    def _release_rate(self, epoch: int) -> float:
        # The releases set the rate from the index of the epoch that just ended; the cosine starts at epoch 0.
        finished = max(epoch - 1, 0)
        if finished < self.warmup:
            return self.warmup_lr + (self.lr - self.warmup_lr) * finished / self.warmup
        return self._cosine(finished / self.epochs)

    def _cosine(self, done: float) -> float:
        return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    def changed(self, changes: Mapping[str, object]) -> Training:
        """A copy with some settings changed; an unknown name is refused."""
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise ValueError(f"no training setting {name!r}; {did_you_mean(name, known)}")
        return replace(self, **changes)  # type: ignore[arg-type]  # checked here and above

    def to_json(self) -> dict[str, object]:
        return asdict(self)


CHOICES: dict[str, tuple[str, ...]] = {
    "schedule": get_args(Schedule),
    "augment": get_args(Augment),
    "precision": get_args(Precision),
    "select": get_args(Select),
}


def explanations() -> dict[str, str]:
    """The sentence under each field of `Training`, by field name: the command line shows these as help."""
    tree = ast.parse(inspect.getsource(Training))
    lines = tree.body[0].body  # type: ignore[attr-defined]  # the class statement
    found: dict[str, str] = {}
    for field, text in itertools.pairwise(lines):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
        ):
            found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _check_number(
    name: str, value: object, least: float, below: float = math.inf, exclusive: bool = False
) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < least or value >= below or (exclusive and value == least):  # type: ignore[operator]
        bound = f"above {least:g}" if exclusive else f"at least {least:g}"
        bound += f" and below {below:g}" if below < math.inf else ""
        raise ValueError(f"{name} must be a number {bound}, got {value!r}")
