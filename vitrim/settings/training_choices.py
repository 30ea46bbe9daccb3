"""The training settings that are one of a few words, and the words."""

from typing import Literal, get_args

Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["cosine", "constant", "release"]
Updates = Literal["step", "epoch"]
Decayed = Literal["all", "matrices"]
Augment = Literal["none", "flip", "shift", "crop", "rand"]
Normalise = Literal["checkpoint", "imagenet", "half", "none", "measured", "given"]
Interpolation = Literal["checkpoint", "bicubic", "bilinear"]
Head = Literal["linear", "batchnorm"]
Precision = Literal["no", "bf16", "fp16"]
Select = Literal["val", "last", "best-on-test"]
ClassWeights = Literal["none", "balanced"]
Sampler = Literal["shuffled", "balanced"]
RegressionLoss = Literal["mse", "huber"]

CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "lr_updates": get_args(Updates),
    "decayed": get_args(Decayed),
    "augment": get_args(Augment),
    "normalise": get_args(Normalise),
    "interpolation": get_args(Interpolation),
    "head": get_args(Head),
    "precision": get_args(Precision),
    "select": get_args(Select),
    "class_weights": get_args(ClassWeights),
    "sampler": get_args(Sampler),
    "regression_loss": get_args(RegressionLoss),
}
