"""Everything of a segmentation run that can be refused before its folder exists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from vitrim.backbones.blocks import set_drop_path
from vitrim.backbones.preprocess import Preprocess, as_asked
from vitrim.dense.learning import check_pairs, make_dense_optimizer, training_masks
from vitrim.dense.model import DenseModel
from vitrim.dense.plan import AskedDense, DensePlan, resume_dense
from vitrim.dense.source import DenseData
from vitrim.runs.batches import TrainingBatches
from vitrim.runs.folder import RunFolder, stored_plan
from vitrim.settings.epoch_choice import settled_select, tested_split
from vitrim.settings.left_open import choose_left_open
from vitrim.settings.training import Training
from vitrim.settings.training_choices import Select
from vitrim.training.task_checks import refuse_methods_of_classes, refuse_unfitted


@dataclass(frozen=True)
class DenseTask:
    """What a run works on."""

    model: DenseModel
    data: DenseData
    training: Training
    batches: TrainingBatches
    test_split: str
    select: Select
    watched: tuple[str, ...]
    """splits that are measured after every epoch"""


def plan_to_resume(out: str | Path | None, asked: AskedDense) -> DensePlan:
    """The plan of the run in `out`."""
    stored_plan(out)  # refuses what cannot be resumed
    settings = RunFolder(str(out)).settings()
    if not isinstance(settings.get("dense"), dict):
        raise ValueError(f"{out} is no run of segmentation; resume it without task=segment")
    try:
        stored = DensePlan.from_json(settings)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{out} is damaged: its settings of segmentation lack {error}") from None
    return resume_dense(stored, asked)


def with_open_settings(plan: DensePlan, source: DenseData) -> tuple[DensePlan, dict[str, str]]:
    """Epochs and rate by the number of pictures, where nobody asked for them."""
    settled, chosen = choose_left_open(plan.plan, len(source.split(plan.plan.training.train_split)))
    return replace(plan, plan=settled), chosen


def prepare_dense(plan: DensePlan, source: DenseData, backbone: str | nn.Module) -> DenseTask:
    """Everything that can be refused before a run folder exists."""
    from accelerate.utils import set_seed

    asked, training = plan.plan, plan.plan.training
    select, test_split = settled_select(source, training), tested_split(source, training)
    check_pairs(plan, len(source.split(training.train_split)))
    source.split(test_split)
    set_seed(training.seed)
    model = DenseModel(
        backbone, *asked.methods, classes=source.table, restore=plan.restore, taps=plan.taps,
        head=plan.decoder, pretrained=asked.pretrained, weights=asked.weights, image_size=asked.image_size,
        in_chans=asked.in_chans, patch_size=asked.patch_size,
    )  # fmt: skip
    model.inference = plan.inference
    preprocess = as_asked(model.staged.preprocess, training.normalise, training.interpolation, 1.0)
    model.staged.preprocess = with_given(preprocess, training)
    if training.drop_path:
        set_drop_path(model.staged.vit, training.drop_path)
    model.staged.set_gradient_checkpointing(training.gradient_checkpointing)
    refuse_methods_of_classes(model.methods, "segmentation")
    refuse_unfitted(model.methods, "segmentation")
    make_dense_optimizer(model, training)  # refuses rates for parts that are not there
    held_out = "val" in source.splits and training.train_split == "train"
    watched = (*(("val",) if held_out else ()), *(("test",) if select == "best-on-test" else ()))
    batches = training_masks(model, source, plan)
    return DenseTask(model, source, training, batches, test_split, select, watched)


def with_given(preprocess: Preprocess, training: Training) -> Preprocess:
    """Mean and std that the settings give, of every channel."""
    if training.normalise != "given":
        return preprocess
    mean, std = tuple(training.mean or ()), tuple(training.std or ())
    if not len(mean) == len(std) == preprocess.channels:
        raise ValueError(
            f"normalise=given needs mean and std of each of the {preprocess.channels} channels, got "
            f"{len(mean)} and {len(std)} numbers"
        )
    return replace(preprocess, mean=mean, std=std)
