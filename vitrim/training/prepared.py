"""A model and the batches it is trained, validated and tested on: everything that can be refused before a run
folder exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vitrim.backbones.blocks import set_drop_path
from vitrim.compose import compose
from vitrim.data import DataSource
from vitrim.data.transforms import eval_transform
from vitrim.network.model import StagedViT
from vitrim.network.target_scale import TargetScale
from vitrim.runs.batches import (
    Batches,
    TrainingBatches,
    ordered_batches,
    training_batches,
    validation_batches,
)
from vitrim.settings.epoch_choice import settled_select, tested_split
from vitrim.settings.run_plan import RunPlan
from vitrim.settings.training import Training
from vitrim.settings.training_choices import Select
from vitrim.training.cache_checks import check_cached_blocks, check_cached_images
from vitrim.training.channels import told
from vitrim.training.clips import video_for
from vitrim.training.fitting import needs_fit
from vitrim.training.mixup import Mixup, make_mixup, mixes
from vitrim.training.objectives import balancing_weights
from vitrim.training.optimising import parameter_groups
from vitrim.training.task_checks import check_task
from vitrim.training.teacher import Teacher, introduce, open_teacher


@dataclass(frozen=True)
class Task:
    """What a training run works on."""

    model: StagedViT
    source: DataSource
    training: Training
    batches: TrainingBatches
    validation: Batches | None
    test: Batches
    test_split: str
    """test, or val where the data has no test split"""
    select: Select
    """how the kept epoch is chosen"""
    mixing: Mixup | None = None
    teacher: Teacher | None = None
    weights: Tensor | None = None
    """what class imbalance makes of each class or label in the loss"""


def prepare_task(
    plan: RunPlan,
    source: DataSource,
    backbone: str | nn.Module,
    processes: int = 1,
    known: Mapping[str, Any] | None = None,
) -> Task:
    """Compose the model a plan asks for, fresh, with a classifier for the data, and open the splits; `known`
    is the record of a run that goes on.
    """
    training = plan.training
    check_shares(training, processes)
    check_single_images(plan, len(source.split(training.train_split)), processes)
    select, test_split = settled_select(source, training), tested_split(source, training)
    teacher = open_teacher(training)  # before the seed is set: it must not change what is drawn
    model = fresh_model(plan, source, backbone, known)
    check_task(model, training)
    if training.cache_frozen:
        check_cached_images(source, training, processes)
        if not needs_fit(model):
            check_cached_blocks(model)
    teacher = None if teacher is None else introduce(teacher, model, source)
    tested = source.split(test_split).with_transform(eval_transform(model.preprocess))
    return Task(
        model,
        source,
        training,
        batches=training_batches(model, source, training),
        validation=validation_batches(model, source, training),
        test=ordered_batches(tested, training.batch_size, training.workers),
        test_split=test_split,
        select=select,
        mixing=make_mixup(training, len(source.classes)),
        teacher=teacher,
        weights=None
        if training.class_weights == "none"
        else balancing_weights(source.task, source.split(training.train_split), len(source.classes)),
    )


def fresh_model(
    plan: RunPlan, source: DataSource, backbone: str | nn.Module, known: Mapping[str, Any] | None = None
) -> StagedViT:
    """The model a plan asks for, its random parts drawn from the seed."""
    from accelerate.utils import set_seed

    training = plan.training
    set_seed(training.seed)
    normed = ("BatchNormHead()",) if training.head == "batchnorm" else ()
    model = compose(
        backbone,
        *plan.methods,
        *normed,
        num_classes=len(source.classes),
        pretrained=plan.pretrained,
        image_size=plan.image_size,
        weights=plan.weights,
        in_chans=plan.in_chans,
        video=video_for(plan.video, source),
        patch_size=plan.patch_size,
    )
    model.classes, model.task = source.classes, source.task
    if source.task == "regress":
        model.scale = TargetScale.of(source.classes, source.split(training.train_split).labels)
    model.preprocess = told(model.preprocess, source, training, known)
    if training.drop_path:
        set_drop_path(model.vit, training.drop_path)
    model.set_gradient_checkpointing(training.gradient_checkpointing)
    parameter_groups(model, training)  # refuses rates for parts that are not there
    return model


def check_single_images(plan: RunPlan, images: int, processes: int) -> None:
    """Refuse batches of one image where the head takes mean and variance over the batch."""
    size, normed = plan.training.batch_size, [text.partition("(")[0] for text in plan.methods]
    if plan.training.head != "batchnorm" and "BatchNormHead" not in normed:
        return
    smallest = size if plan.training.drop_last else images % size or size
    if smallest <= processes:
        raise ValueError(
            f"the BatchNorm before the classifier needs several images at a time, but {images:,} images in "
            f"batches of {size} leave a batch of {smallest} for {processes} processes; choose another "
            "batch_size" + ("" if smallest == size else ", or drop_last=true")
        )


def check_shares(training: Training, processes: int) -> None:
    """Refuse batches that the processes cannot share evenly."""
    size = training.batch_size
    if size % processes:
        raise ValueError(
            f"batch_size {size} cannot be shared evenly by {processes} processes; it counts the images of "
            f"all together, so take a multiple of {processes}"
        )
    if mixes(training) and (size // processes) % 2:
        raise ValueError(
            f"mixup and cutmix pair the images of a process, but batch_size {size} gives each of {processes} "
            f"an odd number; take a multiple of {2 * processes}"
        )
