"""A model and the batches it is trained, validated and tested on: everything that can be refused before a run
folder exists.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vitrim.batches import Batches, TrainingBatches, ordered_batches, training_batches, validation_batches
from vitrim.compose import compose
from vitrim.data import DataSource
from vitrim.data.transforms import eval_transform
from vitrim.plan import Plan
from vitrim.stage import StagedViT
from vitrim.teacher import Teacher, introduce, open_teacher
from vitrim.timm_bridge import set_drop_path
from vitrim.training import Training


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
    teacher: Teacher | None = None


def prepare_task(plan: Plan, source: DataSource, backbone: str | nn.Module) -> Task:
    """Compose the model a plan asks for, fresh, with a classifier for the data, and open the splits."""
    from accelerate.utils import set_seed

    training = plan.training
    teacher = open_teacher(training)  # before the seed is set: it must not change what is drawn
    set_seed(training.seed)
    model = compose(
        backbone,
        *plan.methods,
        num_classes=len(source.classes),
        pretrained=plan.pretrained,
        image_size=plan.image_size,
        weights=plan.weights,
    )
    model.classes = source.classes
    teacher = None if teacher is None else introduce(teacher, model, source)
    if training.drop_path:
        set_drop_path(model.vit, training.drop_path)
    model.set_gradient_checkpointing(training.gradient_checkpointing)
    test_split = "test" if "test" in source.splits else "val"
    tested = source.split(test_split).with_transform(eval_transform(model.preprocess))
    return Task(
        model,
        source,
        training,
        batches=training_batches(model, source, training),
        validation=validation_batches(model, source, training),
        test=ordered_batches(tested, training.batch_size, training.workers),
        test_split=test_split,
        teacher=teacher,
    )
