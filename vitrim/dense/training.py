"""`train_dense`: from a backbone, masks and methods to a run folder with a segmentation model.

The loop is that of `vitrim.training.loop`, with its epochs, checkpoints and choice of the kept epoch: what
happens in an epoch depends on the seed, on it and on the state before it, so that a run that was stopped and
resumed ends with the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from vitrim.dense.evaluating import measure, unreduced
from vitrim.dense.learning import DenseLearner, make_dense_optimizer
from vitrim.dense.metrics import SegmentationMetrics
from vitrim.dense.model import DenseModel
from vitrim.dense.plan import AskedDense, settle_dense
from vitrim.dense.preparing import DenseTask, plan_to_resume, prepare_dense, with_open_settings
from vitrim.dense.record import (
    check_same_dense_data,
    dense_results,
    start_dense_record,
)
from vitrim.dense.saving import save_dense
from vitrim.dense.spec import open_dense_data
from vitrim.files.saving import SEGMENT
from vitrim.measuring.devices import repeatable, start_accelerator
from vitrim.network.method import Method
from vitrim.network.placing import placed
from vitrim.runs.batches import readers_end_with_errors
from vitrim.runs.folder import RunFolder, claim_folder
from vitrim.settings.epoch_choice import Picked
from vitrim.settings.run_plan import Asked
from vitrim.settings.training import Training
from vitrim.training.averaging import RunningMean
from vitrim.training.checkpoint import Trained, fill_weights, restore_checkpoint
from vitrim.training.dead_workers import refuse_unguarded, workers_in_words
from vitrim.training.epoch import Learning
from vitrim.training.passes import Passes
from vitrim.training.progress import Progress, opening_lines
from vitrim.training.record import finish_record

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class DenseRun:
    """A finished run: its folder, the trained model, how well it does, and what run.json holds."""

    folder: Path
    model: DenseModel
    metrics: SegmentationMetrics
    record: Mapping[str, Any]


@readers_end_with_errors()
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
    patch_size: int | tuple[int, int] | None = None,
    root: str | Path | None = None,
    resume: bool = False,
    cpu: bool = False,
    quiet: bool = False,
) -> DenseRun:
    """Train a segmentation and write a run folder.

    Args:
        model, recipe, methods, out, pretrained, weights, image_size, in_chans, patch_size, root, resume,
            cpu, quiet: as
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
            weights=weights, image_size=image_size, in_chans=in_chans, patch_size=patch_size, root=root,
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


def train_epochs(
    task: DenseTask, folder: RunFolder, record: Mapping[str, Any], accelerator: Accelerator, quiet: bool
) -> DenseRun:
    """Train from the last checkpoint of `folder`, or from the start, to the end; measure; write results."""
    model, training = task.model, task.training
    learner, optimizer, loader = accelerator.prepare(
        DenseLearner(model), make_dense_optimizer(model, training), task.batches.loader
    )
    mean = RunningMean(list(model.trained().values()), training.ema)
    learning = Learning(learner, loader, optimizer, None, mean, training, accelerator, model.staged)
    trained = Trained(model, optimizer, mean, accelerator)
    picked = restore_checkpoint(folder, trained)
    passes = Passes(learning, trained, task.batches, task.select, lambda _: watch(task, trained))
    with Progress(training.all_epochs, len(loader), not quiet, done=picked.last) as progress:
        progress.say(opening_lines(record, folder.path, picked.last))
        picked = passes.run(folder, picked, progress)
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
    folder.write_record(finish_record(record, results, folder.history(), folder.model_file))
    return DenseRun(folder.path, model, found, folder.record())


def is_dense_run(folder: str | Path | None) -> bool:
    """Whether a folder holds a run of segmentation, finished or not."""
    if folder is None or not RunFolder(folder).record_file.is_file():
        return False
    task: object = RunFolder(folder).record().get("data", {}).get("task")
    return task == SEGMENT
