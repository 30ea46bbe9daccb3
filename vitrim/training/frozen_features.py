"""Linear probing in seconds: what a frozen backbone says about an image that never changes is computed once.

Only where every epoch would compute the same again: nothing before the classifier trains or draws at random,
and images are seen as they are in testing. Order, batches, losses and weights are those of a run that
computes everything anew.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from timm.layers import DropPath
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vitrim.methods.tuners.batchnorm_head import BatchNormHead
from vitrim.methods.tuners.linear import Linear
from vitrim.network.frozen import HeadAlone, LaterBlocks
from vitrim.network.model import StagedViT
from vitrim.runs.batches import Batches, ordered_batches
from vitrim.training.kept_batches import Rows, kept_batches
from vitrim.training.prepared import Task

if TYPE_CHECKING:
    from accelerate import Accelerator

MOST_BYTES = 2**30  # of features, all splits together
FLOAT = 4  # bytes


@dataclass(frozen=True)
class FrozenFeatures:
    """What takes the place of model, training images and validation images."""

    rest: HeadAlone | LaterBlocks
    training: Batches
    watched: Mapping[str, Batches]
    seconds: float
    what: str = "backbone and training images do not change"


def head_alone_trains(model: StagedViT) -> bool:
    """Whether this is linear probing."""
    return all(isinstance(method, Linear | BatchNormHead) for method in model.methods)


def classifier_alone_trains(model: StagedViT) -> bool:
    """The same of one classifier, which reads one vector an image."""
    head = {id(parameter) for parameter in model.vit.head.parameters()}
    return (
        head_alone_trains(model)
        and not isinstance(model.vit, VisionTransformerDistilled)
        and all(id(parameter) in head for parameter in model.trained().values())
    )


def why_not_frozen(task: Task, processes: int) -> str | None:
    """Why features have to be computed anew in every epoch; None where once is enough."""
    model, training = task.model, task.training
    if not head_alone_trains(model):
        return "methods act before the classifier"
    if not classifier_alone_trains(model):
        return "more than one classifier trains"
    if task.source.clips is not None:
        return "the frames of training clips are drawn at random"
    if training.augment != "none" or training.colour_jitter or training.erasing:
        return "training images are changed at random"
    if task.mixing is not None or task.teacher is not None:
        return "images are mixed" if task.mixing is not None else "a teacher sees the images too"
    if task.select == "best-on-test" or processes > 1 or training.precision != "no":
        return "so it is with select=best-on-test, several processes or another precision"
    if draws_at_random(model):
        return "the backbone draws at random in training"
    if feature_bytes(task) > MOST_BYTES:
        return f"they would take {feature_bytes(task) / 2**30:.1f} GiB, more than {MOST_BYTES / 2**30:.0f}"
    return None


def draws_at_random(model: StagedViT) -> bool:
    """Whether some part of the backbone is known to do other things in training than in testing."""
    behind = set(model.vit.head_drop.modules())
    for module in model.vit.modules():
        if isinstance(module, nn.Dropout) and module.p > 0:
            return True
        if isinstance(module, DropPath) and module.drop_prob:
            return True
        if isinstance(module, _BatchNorm) and module not in behind:
            return True
    return False


def same_in_training(model: StagedViT, images: Tensor) -> bool:
    """Whether parts of a kind we do not know draw at random: tried on a batch, twice."""
    devices = [images.device] if images.is_cuda else []
    found = [model.read_by_head(images)]
    with torch.random.fork_rng(devices):
        model.train()
        for seed in (0, 1):
            torch.manual_seed(seed)
            found.append(model.read_by_head(images))
    model.eval()
    return all(torch.allclose(found[0], other, rtol=1e-4, atol=1e-5) for other in found[1:])


def feature_bytes(task: Task) -> int:
    held = [task.source.split(task.training.train_split)]
    held += [task.source.split("val")] if task.validation is not None else []
    return FLOAT * int(task.model.vit.num_features) * sum(map(len, held))


def freeze_features(task: Task, accelerator: Accelerator) -> FrozenFeatures | str:
    """Run the backbone once over the training and validation images; or why that is not enough."""
    if reason := why_not_frozen(task, accelerator.num_processes):
        return reason
    began = time.perf_counter()
    model, training, batches = task.model.to(accelerator.device), task.training, task.batches
    images = ordered_batches(batches.images, training.batch_size, training.workers)
    found = features_of(model, images, accelerator)
    if found is None:
        return "the backbone draws at random in training"
    if batches.tolerant is not None and batches.tolerant.bad_names():
        return "some training images cannot be read"  # which of them an epoch meets is recorded
    watched = {}
    if task.validation is not None and (held_out := features_of(model, task.validation, accelerator)):
        watched = {"val": kept_batches(*held_out, training.batch_size)}
    ordered = kept_batches(*found, training.batch_size, batches.order, training.drop_last)
    return FrozenFeatures(HeadAlone(model), ordered, watched, time.perf_counter() - began)


def features_of(model: StagedViT, images: Batches, accelerator: Accelerator) -> tuple[Rows, Tensor] | None:
    """Features [images, D] and labels of all images, in order, where the model is; None where training would
    see others.
    """
    found: list[Tensor] = []
    labels = []
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for pictures, truths in images:
            pictures = pictures.to(accelerator.device)
            if not found and not same_in_training(model, pictures):
                break
            found.append(model.read_by_head(pictures))
            labels.append(truths)
    model.train(was_training)
    if not found:
        return None
    return {"features": torch.cat(found)}, torch.cat(labels).to(accelerator.device)


def what_learns(task: Task, found: FrozenFeatures | str) -> tuple[StagedViT, Batches]:
    """What is trained and measured in an epoch, and on what: the model on images, or its head on features."""
    if isinstance(found, str):
        return task.model, task.batches.loader
    return cast(StagedViT, found.rest), found.training


def in_words(found: FrozenFeatures | str) -> str:
    if isinstance(found, str):
        return f"features  computed anew in every epoch: {found}"
    return f"features  computed once, in {found.seconds:.1f} s: {found.what}"
