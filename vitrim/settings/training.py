"""Every training setting, as data: one frozen dataclass.

A protocol carries a `Training`; `vitrim train` turns each field into an option of the same name; the run
folder stores it. What is allowed is in `training_choices.py` and `training_checks.py`, the
learning-rate curve in `learning_rate.py`.
Nothing here imports torch, so the command line can read names, defaults and explanations without waiting.
"""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from vitrim.checks import did_you_mean
from vitrim.settings.learning_rate import rate_at
from vitrim.settings.training_checks import check_training
from vitrim.settings.training_choices import (
    Augment,
    ClassWeights,
    Decayed,
    Head,
    Interpolation,
    Normalise,
    Optimizer,
    Precision,
    RegressionLoss,
    Sampler,
    Schedule,
    Select,
    Updates,
)


@dataclass(frozen=True)
class Training:
    """How to train. The defaults are the recipe that most papers share on VTAB-1K."""

    epochs: int = 100
    """how many times to go through the training images"""
    cooldown_epochs: int = 0
    """further epochs after those, at min_lr"""
    patience: int | None = None
    """stop early after this many epochs without a better accuracy on the val split; not given: never"""
    batch_size: int = 64
    """images per step, over all processes together"""
    accumulate: int = 1
    """batches whose gradients are summed before each update"""
    drop_last: bool = True
    """leave out the last batch of an epoch when it is not full"""
    optimizer: Optimizer = "adamw"
    """torch's adamw, adam (weight decay added to the gradient) or sgd"""
    momentum: float = 0.9
    """momentum of sgd"""
    lr: float = 1e-3
    """highest learning rate, reached when the warm-up ends"""
    lr_batch: int | None = None
    """batch size that lr is meant for: lr times batch_size times accumulate divided by this is used; not
    given: lr as it is
    """
    rates: Mapping[str, float] | None = None
    """multiples of the learning rate for parts of the model, such as {"head": 10, "backbone": 0.01}: head,
    backbone (its own weights), or any part of a parameter's name
    """
    frozen_epochs: int = 0
    """epochs in which the backbone's own weights rest, where a method trains them"""
    layer_decay: float | None = None
    """factor from each block's learning rate to that of the block before it; not given: one rate for all"""
    min_lr: float = 1e-5
    """learning rate the cosine ends at"""
    warmup_epochs: float | None = None
    """epochs over which the learning rate rises in a straight line; not given: a tenth of the epochs"""
    warmup_lr: float = 1e-6
    """learning rate the warm-up starts from"""
    schedule: Schedule = "cosine"
    """cosine: falls from lr to min_lr; constant: stays at lr after the warm-up; release: as the papers'
    released code runs it (set once per epoch and one epoch late, so lr itself is never reached)
    """
    lr_updates: Updates = "step"
    """when the learning rate is set: at every step, or once per epoch"""
    weight_decay: float = 1e-4
    """weight decay of what is trained"""
    decayed: Decayed = "all"
    """what decays: all that is trained, or matrices (no biases, no norms, no other vectors)"""
    clip_grad: float | None = None
    """largest norm of the gradient, longer ones are scaled down; not given: no limit"""
    label_smoothing: float = 0.0
    """share of the target spread evenly over all classes, 0 to below 1"""
    class_weights: ClassWeights = "none"
    """none, or balanced: rare classes weigh as much in the loss as common ones, by their numbers of training
    images; of several labels a picture, each label weighs as much where it is as where it is not
    """
    sampler: Sampler = "shuffled"
    """shuffled: every training image once an epoch; balanced: every class equally often, images of rare
    classes repeatedly under new random changes, and not all of the common ones
    """
    regression_loss: RegressionLoss = "mse"
    """of numbers to predict: mse, or huber (linear beyond one standard deviation, against outliers)"""
    drop_path: float = 0.0
    """chance to skip a residual branch of the last block in training; the first block skips none"""
    teacher: str | None = None
    """run folder or saved model of the same classes to learn from, such as a run without reduction; its class
    probabilities and, where the methods learn to mask patches, its patches are added to the loss
    """
    distil: float = 0.5
    """weight of each of the terms a teacher adds, 0 or more"""
    augment: Augment = "none"
    """random changes of training images: none, flip (left-right), shift (resized, a window cut out at random,
    flip), crop (a random share of the image, flip), rand (crop and RandAugment)
    """
    policy: str = "rand-m9-mstd0.5-inc1"
    """timm's text for the RandAugment of augment=rand"""
    colour_jitter: float = 0.0
    """largest change of brightness, contrast and saturation in training, as a share"""
    erasing: float = 0.0
    """chance to erase a rectangle of a training image"""
    mixup: float = 0.0
    """alpha of mixup, 0 for none: two images and their labels are blended"""
    cutmix: float = 0.0
    """alpha of cutmix, 0 for none: a rectangle of one image comes from another; with mixup, one of the two
    """
    normalise: Normalise = "checkpoint"
    """mean and std that pixels are normalised with: checkpoint (as the backbone was trained), imagenet, half
    (0.5 and 0.5), none (pixels from 0 to 1), measured (of every channel, on the training images) or given
    (mean and std beside it); saved with the model
    """
    mean: list[float] | None = None
    """of every channel, for pixels from 0 to 1; with normalise=given"""
    std: list[float] | None = None
    """of every channel, for pixels from 0 to 1; with normalise=given"""
    full_scale: float | None = None
    """the value that counts as 1 in images that are arrays or TIFF of many bands, such as 10000 for
    reflectance; not given: 255 of uint8, 65535 of uint16, and 1 of floats, which then lie between 0 and 1;
    saved with the model
    """
    interpolation: Interpolation = "checkpoint"
    """how images are resized: as the backbone was trained, bicubic or bilinear; saved with the model"""
    test_crop: float = 1.0
    """share of an image's shorter side that is looked at outside training: 1 resizes the whole image, below
    1 cuts the centre out; saved with the model
    """
    head: Head = "linear"
    """classifier: linear, or batchnorm (a BatchNorm without weights before the linear layer)"""
    ema: float | None = None
    """decay of a running mean of the trained weights, such as 0.9998, which is measured and saved in their
    place; not given: none
    """
    precision: Precision = "no"
    """number format of the forward pass: no (float32), bf16 or fp16 (needs a GPU)"""
    gradient_checkpointing: bool = False
    """compute activations twice to save memory"""
    cache_frozen: bool = False
    """compute what the blocks before anything that trains say of every image once, and keep it on the disk,
    in the run folder, for all epochs; for images that are not changed at random
    """
    deterministic: bool = False
    """only operations that give the same bits every time on the same machine; slower on a GPU"""
    seed: int = 42
    """start of all randomness: fresh weights, image order, augmentation, dropout"""
    train_split: str = "train"
    """images to train on: train, or trainval where the data has it (then nothing is left to validate on)"""
    test_split: str | None = None
    """images that the finished model is measured on; not given: test, or val where there is none"""
    select: Select | None = None
    """which epoch's weights are kept: val (most accurate on the val split), last, or best-on-test (as most
    papers print; every result is marked); not given: val where images are held out for it, otherwise last
    """
    workers: int | None = None
    """processes that read images; not given: none on a small CPU machine, up to 8 otherwise"""
    bad_images: int = 10
    """most training images per epoch that may be unreadable and are replaced by others; 0: none"""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            if isinstance(getattr(self, name), tuple):  # JSON has lists alone, and a resumed run compares
                object.__setattr__(self, name, list(getattr(self, name)))
        check_training(self)

    @property
    def all_epochs(self) -> int:
        """Epochs with those of the cool-down."""
        return self.epochs + self.cooldown_epochs

    @property
    def peak(self) -> float:
        """The highest learning rate, scaled to the batch."""
        return (
            self.lr if self.lr_batch is None else self.lr * self.batch_size * self.accumulate / self.lr_batch
        )

    @property
    def warmup(self) -> float:
        """Epochs of warm-up, with the default filled in."""
        return self.epochs / 10 if self.warmup_epochs is None else self.warmup_epochs

    def learning_rate(self, progress: float) -> float:
        """The learning rate after `progress` epochs (2.5 is the middle of the third)."""
        return rate_at(self, progress)

    def changed(self, changes: Mapping[str, object]) -> Training:
        """A copy with some settings changed; an unknown name is refused."""
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise ValueError(f"no training setting {name!r}; {did_you_mean(name, known)}")
        return replace(self, **changes)  # type: ignore[arg-type]  # checked here and above

    def to_json(self) -> dict[str, object]:
        return asdict(self)


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
