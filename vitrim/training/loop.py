"""`train`: from a backbone, data and methods to a run folder with a trained model, in one readable loop.

Whatever happens in epoch e depends on the seed, on e and on the state after epoch e-1, and on nothing else:
so a run that was stopped and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from vitrim.data import DataSource, open_data
from vitrim.files.saving import needs_its_backbone, save
from vitrim.measuring.devices import repeatable, start_accelerator
from vitrim.network.budgeting import forget_levels
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.network.notebook import table_html
from vitrim.runs.answered import Answered, write_answered
from vitrim.runs.batches import readers_end_with_errors
from vitrim.runs.evaluate import run_through
from vitrim.runs.folder import RunFolder, claim_folder, stored_plan
from vitrim.runs.kinds import AnyMetrics, Metrics
from vitrim.runs.tested import TestedPictures, digest_of, write_tested
from vitrim.settings.epoch_choice import Picked
from vitrim.settings.left_open import choose_left_open
from vitrim.settings.run_plan import Asked, RunPlan, resume_plan, settle_plan
from vitrim.settings.task_kinds import result_words
from vitrim.settings.training import Training
from vitrim.training.averaging import RunningMean
from vitrim.training.checkpoint import Trained, fill_weights, restore_checkpoint
from vitrim.training.clips import with_video
from vitrim.training.dead_workers import refuse_unguarded, workers_in_words
from vitrim.training.epoch import Learning
from vitrim.training.fitting import adopt, fit_for_training, needs_fit
from vitrim.training.frozen_cache import keep_frozen
from vitrim.training.frozen_features import freeze_features, head_alone_trains, what_learns
from vitrim.training.frozen_features import in_words as frozen_in_words
from vitrim.training.losses import WithLoss
from vitrim.training.optimising import make_optimizer
from vitrim.training.passes import Passes
from vitrim.training.prepared import Task, prepare_task
from vitrim.training.progress import Progress, opening_lines, say_line
from vitrim.training.record import check_same_data, cost_record, finish_record, result_record, start_record
from vitrim.training.task_asked import asked_task
from vitrim.training.tracking import check_trackers, start_tracking
from vitrim.training.warm_start import asked_from, warm_start
from vitrim.training.watching import measured, watched_batches
from vitrim.video.settings import Video

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the trained model, and how well it does."""

    folder: Path
    model: StagedViT
    metrics: AnyMetrics
    record: Mapping[str, Any]
    """what run.json holds"""

    def _repr_html_(self) -> str:
        """What notebooks show."""
        results, costs = self.record["results"], self.record["costs"]
        told = {
            "result": f"{result_words(results)}, on {results['images']:,} {results['split']} images",
            "methods": ", ".join(map(repr, self.model.methods)) or "none: only the classifier trains",
            "costs": f"{costs['gmacs']:.3f} GMACs, {costs['trained_parameters']:,} trained parameters; plain "
            f"backbone {costs['plain']['gmacs']:.3f}, {costs['plain']['total_parameters']:,}",
            "page": f"vitrim report {self.folder}",
        }
        return table_html(f"run {self.folder}", told)


@readers_end_with_errors()
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
    in_chans: int | None = None,
    video: Video | str | None = None,
    patch_size: int | tuple[int, int] | None = None,
    root: str | Path | None = None,
    download: bool = False,
    protocol: str | None = None,
    per_task: bool | None = None,
    task: str | None = None,
    trackers: Sequence[str] = (),
    init: str | Path | None = None,
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
            Where neither they nor a protocol say so, the number of images decides `epochs`, and the number
            of steps `lr`; "auto" asks for that beside a protocol too.
        pretrained, weights, image_size, in_chans, patch_size: as for `compose`.
        video: of clips, how their frames become one answer; `Video()` if not given. Frames and their stride
            belong to `data`.
        root: folder of the files of data kinds such as vtab.
        download: whether data that is not there may be fetched, by kinds that can.
        protocol: a name in `PROTOCOLS`, a published way to train in place of the recipe's; what `training`
            changes of it is recorded and printed.
        per_task: whether to take the protocol's values for the task of `data`, where it has some; yes if not
            given.
        task: "classify", "multilabel" (several labels a picture) or "regress" (numbers to predict); not
            given: what the data certainly is.
        trackers: names of Accelerate's trackers, such as "tensorboard", to tell every epoch to.
        init: a finished run whose model, methods and trained weights are the start of this one; its
            classifier too, where the classes are the same.
        resume: continue the run in `out`; whatever is not given is taken from there.
        cpu: stay on the CPU where there is a GPU.
        quiet: print nothing.

    Raises:
        ValueError, FileNotFoundError, OSError, FloatingPointError: in one sentence, what is wrong and what
            to do about it.

    >>> train(data="folder:flowers", recipe="sparse-tuning", training={"epochs": 20}, out="runs/flowers")
    """
    refuse_unguarded()
    data = data if task is None else asked_task(data, task, out if resume else None)
    asked = Asked(
        model=model if isinstance(model, str | None) else f"{type(model).__name__} given as a module",
        data=data.spec if isinstance(data, DataSource) else data,
        recipe=recipe, methods=methods, training=training, pretrained=pretrained,
        weights=weights, image_size=image_size, in_chans=in_chans, patch_size=patch_size, video=video,
        root=root,
        protocol=protocol, per_task=per_task, init=init,
    )  # fmt: skip
    check_trackers(trackers)
    plan = plan_to_resume(out, asked) if resume else settle_plan(asked_from(asked) if init else asked)
    accelerator = start_accelerator(plan.training.precision, plan.training.accumulate, cpu)
    with accelerator.main_process_first():  # one process downloads
        source = (
            data if isinstance(data, DataSource) else open_data(plan.data, root=plan.root, download=download)
        )
    chosen: dict[str, str] = {}
    known: Mapping[str, Any] | None = None
    if resume:
        begun = RunFolder(str(out))
        known = begun.record_to_resume()
        check_same_data(known, source, len(begun.history()))
    else:
        plan, chosen = choose_left_open(plan, len(source.split(plan.training.train_split)))
        plan = with_video(plan, source)
    backbone = model if isinstance(model, nn.Module) else plan.model
    prepared = prepare_task(plan, source, backbone, accelerator.num_processes, known)
    start = warm_start(plan, prepared.model, Path(str(out)) if resume else None)
    with ExitStack() as held:
        folder = claim_folder(out, plan, resume, accelerator, held)
        record = folder.record() if resume else start_record(plan, source, prepared, chosen, start)
        if accelerator.is_main_process and not resume:
            folder.write_record(record)
        start_tracking(trackers, accelerator, folder.path, record["settings"])
        try:
            with repeatable(plan.training.deterministic), workers_in_words(folder, fresh=not resume):
                return train_epochs(prepared, folder, record, accelerator, quiet)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped; vitrim train --resume --out {folder.path} goes on") from None


def plan_to_resume(out: str | Path | None, asked: Asked) -> RunPlan:
    """The plan of the run in `out`; more epochs of one that has finished are another run."""
    stored = stored_plan(out)
    longer = asked.training_changes().get("epochs") not in (None, stored.training.epochs)
    if longer and RunFolder(str(out)).record().get("status") == "finished":
        raise ValueError(
            f"{out} has finished, and its learning rate has come down; to train on from its weights, start a "
            f"new run with --init {out} --epochs N, which has a warm-up and a schedule of its own"
        )
    return resume_plan(stored, asked)


def train_epochs(
    task: Task, folder: RunFolder, record: Mapping[str, Any], accelerator: Accelerator, quiet: bool
) -> Run:
    """Train from the last checkpoint of `folder`, or from the start, to the end; measure; write results."""
    model, training = task.model, task.training
    if needs_fit(model):
        record = choose_by_data(task, folder, record, accelerator)
    if task.teacher is not None:
        task.teacher.model.to(accelerator.device)
    shown = accelerator.is_main_process and not quiet
    if training.cache_frozen:
        frozen = keep_frozen(task, folder, accelerator, partial(say_line, shown=shown))
    else:
        frozen = freeze_features(task, accelerator)
    seen, batches = what_learns(task, frozen)
    learner, optimizer, loader = accelerator.prepare(
        WithLoss(seen, training, task.teacher, task.weights), make_optimizer(model, training), batches
    )
    mean = RunningMean(list(model.trained().values()), training.ema)
    learning = Learning(learner, loader, optimizer, task.mixing, mean, training, accelerator, model)
    trained = Trained(model, optimizer, mean, accelerator)
    watched = watched_batches(task, frozen, accelerator)
    picked = restore_checkpoint(folder, trained)

    def watch(row: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if task.source.clips is not None:
            found["clips_per_second"] = round(len(task.batches.images) / max(row["seconds"], 1e-3), 2)
        return found | measured(seen, trained, watched)

    passes = Passes(learning, trained, task.batches, task.select, watch)
    with Progress(training.all_epochs, len(loader), shown, done=picked.last) as progress:
        progress.say(opening_lines(record, folder.path, picked.last))
        if training.cache_frozen or head_alone_trains(model):
            progress.say(frozen_in_words(frozen))
        picked = passes.run(folder, picked, progress)
    if training.cache_frozen and accelerator.is_main_process:
        folder.clear_frozen()
    return finish(task, folder, record, picked, trained)


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


def settle_budgets(task: Task, record: Mapping[str, Any], accelerator: Accelerator) -> Mapping[str, Any]:
    """Find the levels of a budget per image anew: attention has changed by training."""
    if not forget_levels(task.model):
        return record
    fit_for_training(task.model, task.source, task.training, accelerator)
    return {**record, "chosen_methods": [repr(method) for method in task.model.methods]}


def finish(task: Task, folder: RunFolder, record: Mapping[str, Any], picked: Picked, trained: Trained) -> Run:
    """Measure the kept weights on the test images; write model.safetensors and the results."""
    model, accelerator, epoch = task.model, trained.accelerator, picked.last
    accelerator.wait_for_everyone()  # the first process may still be writing the best epoch
    if task.select == "last":
        trained.mean.take_over()
    else:
        epoch = picked.epoch
        fill_weights(model, folder.best(epoch)["weights"])
    record = settle_budgets(task, record, accelerator)
    metrics, answers, losses = run_through(model, accelerator.prepare(task.test), accelerator)
    results = result_record(task.test_split, epoch, task.select, metrics)
    if accelerator.is_main_process:
        pictures = digest_of(task.source, task.test_split)
        write_answered(folder.path, Answered(task.test_split, pictures, answers, losses))
        if isinstance(metrics, Metrics):  # right or wrong, picture by picture
            write_tested(folder.path, TestedPictures(task.test_split, pictures, metrics.right))
        extra, whole = {"results": results, "data": task.source.spec}, needs_its_backbone(model)
        save(model, folder.model_file, include_backbone=whole, extra=extra)
        folder.write_record(finish_record(record, results, folder.history(), folder.model_file))
    accelerator.wait_for_everyone()
    if accelerator.trackers:
        accelerator.end_training()
    return Run(folder.path, model.eval(), metrics, folder.record())
