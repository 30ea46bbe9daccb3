"""`train`: from a backbone, data and methods to a run folder with a trained model, in one readable loop.

Whatever happens in epoch e depends on the seed, on e and on the state after epoch e-1, and on nothing else:
so a run that was stopped and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vitrim.batches import mixed_seed
from vitrim.checkpoint import fill, keep_epoch, restore
from vitrim.data import DataSource, open_data
from vitrim.devices import start_accelerator
from vitrim.epoch import train_epoch
from vitrim.evaluate import Metrics, measure
from vitrim.fitting import adopt, fit_for_training, needs_fit
from vitrim.losses import WithLoss
from vitrim.method import Method
from vitrim.plan import Asked, resume_plan, settle
from vitrim.progress import Progress, opening_lines
from vitrim.record import cost_record, finish_record, result_record, start_record
from vitrim.run_folder import RunFolder, claim_folder, stored_plan
from vitrim.saving import save
from vitrim.stage import StagedViT
from vitrim.task import Task, prepare_task
from vitrim.training import Training

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the trained model, and how well it does."""

    folder: Path
    model: StagedViT
    metrics: Metrics
    record: Mapping[str, Any]
    """what run.json holds"""


def train(
    model: str | nn.Module | None = None,
    data: str | DataSource | None = None,
    recipe: str | None = None,
    methods: Sequence[Method | str] | None = None,
    out: str | Path | None = None,
    *,
    training: Training | Mapping[str, object] | None = None,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    root: str | Path | None = None,
    resume: bool = False,
    cpu: bool = False,
    quiet: bool = False,
) -> Run:
    """Fine-tune a backbone on data and write a run folder.

    Args:
        model: what `compose` takes as backbone; the bundled one if not given.
        data: a data spec such as "folder:PATH", or an opened data source; the bundled digits if not given.
        recipe: a name in `RECIPES`, which brings methods and training settings. Instead of it:
        methods: the methods themselves, as objects or text; an empty list trains the classifier alone.
        out: the run folder to make; a fresh one under runs/ if not given.
        training: a `Training`, or only the settings that differ from the recipe, such as {"epochs": 10}.
        pretrained, weights, image_size: as for `compose`.
        root: folder of the files of data kinds such as vtab.
        resume: continue the run in `out`; whatever is not given is taken from there.
        cpu: stay on the CPU where there is a GPU.
        quiet: print nothing.

    Raises:
        ValueError, FileNotFoundError, OSError, FloatingPointError: in one sentence, what is wrong and what
            to do about it.

    >>> train(data="folder:flowers", recipe="sparse-tuning", training={"epochs": 20}, out="runs/flowers")
    """
    asked = Asked(
        model=model if isinstance(model, str | None) else f"{type(model).__name__} given as a module",
        data=data.spec if isinstance(data, DataSource) else data,
        recipe=recipe, methods=methods, training=training, pretrained=pretrained,
        weights=weights, image_size=image_size, root=root,
    )  # fmt: skip
    plan = resume_plan(stored_plan(out), asked) if resume else settle(asked)
    accelerator = start_accelerator(plan.training.precision, plan.training.accumulate, cpu)
    source = data if isinstance(data, DataSource) else open_data(plan.data, root=plan.root)
    task = prepare_task(plan, source, model if isinstance(model, nn.Module) else plan.model)
    folder = claim_folder(out, plan, resume, accelerator)
    record = folder.record() if resume else start_record(plan, source, task.model, task.teacher)
    if accelerator.is_main_process and not resume:
        folder.write_record(record)
    try:
        return fit(task, folder, record, accelerator, quiet)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; vitrim train --resume --out {folder.path} goes on") from None


def fit(
    task: Task, folder: RunFolder, record: Mapping[str, Any], accelerator: Accelerator, quiet: bool
) -> Run:
    """Train from the last checkpoint of `folder`, or from the start, to the end; measure; write results."""
    from accelerate.utils import set_seed

    model, training = task.model, task.training
    if needs_fit(model):
        record = choose_by_data(task, folder, record, accelerator)
    if task.teacher is not None:
        task.teacher.model.to(accelerator.device)
    learner: nn.Module = WithLoss(model, training, task.teacher)
    trained = list(model.trained().values())
    optimizer = torch.optim.AdamW(trained, lr=training.lr, weight_decay=training.weight_decay)
    learner, optimizer, loader = accelerator.prepare(learner, optimizer, task.batches.loader)
    validation = None if task.validation is None else accelerator.prepare(task.validation)
    first, best = restore(folder, model, optimizer, accelerator)

    shown = accelerator.is_main_process and not quiet
    with Progress(training.epochs, len(loader), shown) as progress:
        progress.say(opening_lines(record, folder.path, first))
        for epoch in range(first, training.epochs):
            task.batches.start(epoch)
            model.set_progress(epoch)
            set_seed(mixed_seed(training.seed, epoch, accelerator.process_index))
            started = time.perf_counter()
            loss = train_epoch(learner, loader, optimizer, trained, training, epoch, accelerator, progress)
            row = {"epoch": epoch + 1, "train_loss": loss, "lr": optimizer.param_groups[0]["lr"]}
            row["seconds"] = round(time.perf_counter() - started, 3)
            if bad := task.batches.replaced(accelerator):
                row["bad_images"] = bad
            if validation is not None:
                metrics = measure(model, validation, accelerator)
                row |= {f"val_{name}": value for name, value in metrics.to_json().items() if name != "images"}
            best = keep_epoch(folder, model, optimizer, accelerator, row, best, training)
            progress.epoch_done(row)
    kept = int(best["epoch"]) if training.select == "val" else training.epochs
    return finish(task, folder, record, kept, accelerator)


def choose_by_data(
    task: Task, folder: RunFolder, record: Mapping[str, Any], accelerator: Accelerator
) -> Mapping[str, Any]:
    """Let methods that choose by the training images do so, or take over what they chose before a stop."""
    state = folder.last_checkpoint()
    if state is None:
        fit_for_training(task.model, task.source, task.training, accelerator)
    else:
        adopt(task.model, state["methods"], state["weights"])
    chosen = [repr(method) for method in task.model.methods]
    record = {**record, "chosen_methods": chosen, "costs": cost_record(task.model)}
    if accelerator.is_main_process:
        folder.write_record(record)
    return record


def finish(
    task: Task, folder: RunFolder, record: Mapping[str, Any], epoch: int, accelerator: Accelerator
) -> Run:
    """Measure the weights of `epoch` on the test images; write model.safetensors and the results."""
    if task.training.select == "val":
        fill(task.model, folder.best(epoch)["weights"])
    metrics = measure(task.model, accelerator.prepare(task.test), accelerator)
    results = result_record(task.test_split, epoch, metrics)
    if accelerator.is_main_process:
        save(task.model, folder.model_file, extra={"results": results, "data": task.source.spec})
        folder.write_record(finish_record(record, results, folder.history(), folder.model_file))
    accelerator.wait_for_everyone()
    return Run(folder.path, task.model.eval(), metrics, folder.record())
