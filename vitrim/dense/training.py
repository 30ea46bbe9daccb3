"""`train_dense`: from a backbone, masks and methods to a run folder with a segmentation model.

The loop is that of `vitrim.training.loop`, with its epochs, checkpoints and choice of the kept epoch: what
happens in an epoch depends on the seed, on it and on the state before it, so that a run that was stopped and
resumed ends with the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from vitrim.backbones.blocks import set_drop_path
from vitrim.backbones.preprocess import as_asked
from vitrim.dense.evaluating import measure, unreduced
from vitrim.dense.learning import (
    DenseLearner,
    check_dense_methods,
    check_pairs,
    make_dense_optimizer,
    training_masks,
)
from vitrim.dense.metrics import SegmentationMetrics
from vitrim.dense.model import DenseModel
from vitrim.dense.plan import AskedDense, DensePlan, resume_dense, settle_dense
from vitrim.dense.record import (
    check_same_dense_data,
    dense_results,
    finish_dense_record,
    start_dense_record,
)
from vitrim.dense.saving import save_dense
from vitrim.dense.source import DenseData
from vitrim.dense.spec import open_dense_data
from vitrim.files.saving import SEGMENT
from vitrim.measuring.devices import repeatable, start_accelerator
from vitrim.network.method import Method
from vitrim.network.placing import placed
from vitrim.runs.batches import TrainingBatches, mixed_seed
from vitrim.runs.folder import RunFolder, claim_folder, stored_plan
from vitrim.settings.epoch_choice import Picked, settled_select, tested_split
from vitrim.settings.left_open import choose_left_open
from vitrim.settings.run_plan import Asked
from vitrim.settings.training import Training
from vitrim.settings.training_choices import Select
from vitrim.training.averaging import RunningMean
from vitrim.training.checkpoint import Trained, fill_weights, keep_epoch, restore_checkpoint
from vitrim.training.dead_workers import refuse_unguarded, workers_in_words
from vitrim.training.epoch import Learning, train_epoch
from vitrim.training.progress import Progress, opening_lines

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class DenseRun:
    """A finished run: its folder, the trained model, how well it does, and what run.json holds."""

    folder: Path
    model: DenseModel
    metrics: SegmentationMetrics
    record: Mapping[str, Any]


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


def train_dense(
    model: str | nn.Module | None = None,
    data: str | None = None,
    recipe: str | None = None,
    methods: Sequence[Method | str] | None = None,
    out: str | Path | None = None,
    *,
    restore: str | None = None,
    taps: Sequence[int] | None = None,
    decoder: str | None = None,
    inference: str | None = None,
    training: Training | Mapping[str, object] | None = None,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    in_chans: int | None = None,
    root: str | Path | None = None,
    resume: bool = False,
    cpu: bool = False,
    quiet: bool = False,
) -> DenseRun:
    """Train a segmentation and write a run folder.

    Args:
        model, recipe, methods, out, pretrained, weights, image_size, in_chans, root, resume, cpu, quiet: as
            for `vitrim.train`; a recipe brings its methods alone.
        data: "seg:PATH", "voc:PATH" and so on; see `vitrim.dense.spec`.
        restore, taps, decoder: as for `DenseModel` (decoder is its head).
        inference: "slide" or "whole", how pictures are looked at outside training.
        training: a `Training`, or the settings that differ from the usual ones of segmentation: batches of
            16, random crops; epochs and rate chosen by the number of pictures.

    >>> train_dense("vit_tiny_patch16_224", "seg:road", methods=["LoRA()", "EViT()"], out="runs/road")
    """
    refuse_unguarded()
    asked = AskedDense(
        Asked(
            model=model if isinstance(model, str | None) else f"{type(model).__name__} given as a module",
            data=data, recipe=recipe, methods=methods, training=training, pretrained=pretrained,
            weights=weights, image_size=image_size, in_chans=in_chans, root=root,
        ),
        restore, taps, decoder, inference,
    )  # fmt: skip
    plan = plan_to_resume(out, asked) if resume else settle_dense(asked)
    accelerator = start_accelerator(plan.plan.training.precision, plan.plan.training.accumulate, cpu)
    if accelerator.num_processes > 1:
        raise ValueError("segmentation trains in one process; start it without accelerate launch")
    source = open_dense_data(plan.plan.data, root=plan.plan.root)
    chosen: dict[str, str] = {}
    if resume:
        check_same_dense_data(RunFolder(str(out)).record_to_resume(), source)
    else:
        plan, chosen = with_open_settings(plan, source)
    task = prepare_dense(plan, source, model if isinstance(model, nn.Module) else plan.plan.model)
    with ExitStack() as held:
        folder = claim_folder(out, plan.plan, resume, accelerator, held)
        record = (
            folder.record() if resume else start_dense_record(plan, source, task.model, task.select, chosen)
        )
        if not resume:
            folder.write_record(record)
        try:
            with repeatable(task.training.deterministic), workers_in_words(folder, fresh=not resume):
                return train_epochs(task, folder, record, accelerator, quiet)
        except KeyboardInterrupt:
            again = f"vitrim train --task segment --resume --out {folder.path}"
            raise KeyboardInterrupt(f"stopped; {again} goes on") from None


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
    from dataclasses import replace

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
        in_chans=asked.in_chans,
    )  # fmt: skip
    model.inference = plan.inference
    model.staged.preprocess = as_asked(
        model.staged.preprocess, training.normalise, training.interpolation, 1.0
    )
    if training.drop_path:
        set_drop_path(model.staged.vit, training.drop_path)
    model.staged.set_gradient_checkpointing(training.gradient_checkpointing)
    check_dense_methods(model)
    make_dense_optimizer(model, training)  # refuses rates for parts that are not there
    held_out = "val" in source.splits and training.train_split == "train"
    watched = (*(("val",) if held_out else ()), *(("test",) if select == "best-on-test" else ()))
    batches = training_masks(model, source, plan)
    return DenseTask(model, source, training, batches, test_split, select, watched)


def train_epochs(
    task: DenseTask, folder: RunFolder, record: Mapping[str, Any], accelerator: Accelerator, quiet: bool
) -> DenseRun:
    """Train from the last checkpoint of `folder`, or from the start, to the end; measure; write results."""
    from accelerate.utils import set_seed

    model, training = task.model, task.training
    learner, optimizer, loader = accelerator.prepare(
        DenseLearner(model), make_dense_optimizer(model, training), task.batches.loader
    )
    mean = RunningMean(list(model.trained().values()), training.ema)
    learning = Learning(learner, loader, optimizer, None, mean, training, accelerator)
    trained = Trained(model, optimizer, mean, accelerator)
    picked = restore_checkpoint(folder, trained)
    with Progress(training.all_epochs, len(loader), not quiet, done=picked.last) as progress:
        progress.say(opening_lines(record, folder.path, picked.last))
        for epoch in range(picked.last, training.all_epochs):
            if picked.waited_enough(training):
                progress.say(f"stops early: no better validation for {training.patience} epochs")
                break
            task.batches.start(epoch)
            model.staged.set_progress(epoch)
            set_seed(mixed_seed(training.seed, epoch, accelerator.process_index))
            started = time.perf_counter()
            loss = train_epoch(learning, epoch, progress)
            rate = max(group["lr"] for group in optimizer.param_groups)
            row: dict[str, Any] = {"epoch": epoch + 1, "train_loss": loss, "lr": rate}
            row["seconds"] = round(time.perf_counter() - started, 3)
            row |= watch(task, trained)
            picked = keep_epoch(folder, trained, row, picked, task.select)
            progress.epoch_done(row)
    return finish(task, folder, record, picked, trained)


def watch(task: DenseTask, trained: Trained) -> dict[str, float | None]:
    """The figures of the weights as they would be saved now."""
    row: dict[str, float | None] = {}
    with trained.mean.in_place():
        for split in task.watched:
            found = measure(
                task.model, task.data.split(split), batch_size=task.training.batch_size, boundary=False,
                autocast=trained.accelerator.autocast,
            ).to_json()  # fmt: skip
            row |= {f"{split}_{name}": found[name] for name in ("loss", "miou", "macc", "aacc")}
    return row


def finish(
    task: DenseTask, folder: RunFolder, record: Mapping[str, Any], picked: Picked, trained: Trained
) -> DenseRun:
    """Measure the kept weights on the test pictures; write model.safetensors and the results."""
    model, epoch = task.model, picked.last
    if task.select == "last":
        trained.mean.take_over()
    else:
        epoch = picked.epoch
        fill_weights(model, folder.best(epoch)["weights"])
    split, size = task.data.split(task.test_split), task.training.batch_size
    model.eval()
    whole = unreduced(model) if any(placed(model.staged)) else None
    found = measure(model, split, batch_size=size, whole=whole, autocast=trained.accelerator.autocast)
    theirs = None if whole is None else measure(whole, split, batch_size=size, boundary=False)
    results = dense_results(task.test_split, epoch, task.select, found, theirs)
    save_dense(model, folder.model_file, extra={"results": results, "data": task.data.spec})
    folder.write_record(finish_dense_record(record, results, folder.history(), folder.model_file))
    return DenseRun(folder.path, model, found, folder.record())


def is_dense_run(folder: str | Path | None) -> bool:
    """Whether a folder holds a run of segmentation, finished or not."""
    if folder is None or not RunFolder(folder).record_file.is_file():
        return False
    task: object = RunFolder(folder).record().get("data", {}).get("task")
    return task == SEGMENT
