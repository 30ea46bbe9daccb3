"""`train_retrieval`: from captions and towers to a run folder, in one readable loop.

As in `vitrim.training.loop`, whatever happens in epoch e depends on the seed, on e and on the state
after epoch e-1, and on nothing else: a run that was stopped and resumed ends as one that was not. The
state holds what trains, the momentum towers and the queue. The last epoch's weights are kept, as in the
papers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vitrim.measuring.devices import pick_device, repeatable, start_accelerator
from vitrim.network.budgeting import draw_budgets
from vitrim.retrieval.asked import KIND as TASK
from vitrim.retrieval.building import build
from vitrim.retrieval.caption_data import CaptionSource, open_captions
from vitrim.retrieval.captions import Tokenizer
from vitrim.retrieval.evaluating import Found, Texts
from vitrim.retrieval.feeding import caption_batches, measure
from vitrim.retrieval.keeping import MODEL_FILE, load_retrieval, save_retrieval
from vitrim.retrieval.model import Pairs, RetrievalModel
from vitrim.retrieval.plan import RetrievalPlan
from vitrim.retrieval.state import (
    check_same,
    make_optimizer,
    restore,
    snapshot,
    start_record,
)
from vitrim.runs.batches import TrainingBatches, mixed_seed, readers_end_with_errors
from vitrim.runs.folder import RunFolder, free_folder
from vitrim.runs.lock import alone_in
from vitrim.training.epoch import check_finite
from vitrim.training.optimising import set_rates
from vitrim.training.record import now

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class RetrievalRun:
    """A finished run: its folder, the trained model with its tokenizer, and how well it does."""

    folder: Path
    model: RetrievalModel
    tokenizer: Tokenizer
    found: Found
    record: Mapping[str, Any]


@readers_end_with_errors()
def train_retrieval(
    plan: RetrievalPlan | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    cpu: bool = False,
    quiet: bool = False,
) -> RetrievalRun:
    """Train what a plan says and write a run folder.

    Args:
        plan: what to train; with `resume` it is taken from the folder.
        out: the run folder to make or to go on in; a fresh one under runs/ if not given.
    """
    if resume:
        plan = stored_plan(out)
    if plan is None:
        raise ValueError("what is to be trained? give a plan, or resume with the run's folder as out")
    source = open_captions(plan.data, plan.root, plan.training.seed)
    accelerator = start_accelerator(plan.training.precision, 1, cpu)
    if accelerator.num_processes > 1:
        raise ValueError("retrieval trains in one process: contrast over several is not there; start one")
    model, tokenizer = build(plan, source.split("train").captions)
    if model.queue is not None and model.queue.length < plan.training.batch_size:
        raise ValueError(
            f"the queue of {model.queue.length} pairs is shorter than a batch of {plan.training.batch_size}; "
            "make it longer"
        )
    batches = caption_batches(model, source.split("train"), plan.training, source.spec)
    with ExitStack() as held:
        folder = RunFolder.open(str(out)) if resume else RunFolder.create(out or _fresh(plan))
        held.enter_context(alone_in(folder.path))
        folder.clear_leftovers()
        record = folder.record() if resume else start_record(plan, source, model)
        if not resume:
            folder.write_record(record)
        held.enter_context(repeatable(plan.training.deterministic))
        model.to(accelerator.device)
        fitting = Fitting(plan, source, model, tokenizer, batches, accelerator, quiet)
        try:
            fitting.run(folder, record)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped; vitrim train --resume --out {folder.path} goes on") from None
        return finish(fitting, folder, record)


def stored_plan(out: str | Path | None) -> RetrievalPlan:
    """The plan of the run to go on with."""
    if out is None:
        raise ValueError("which run to resume? give its folder as out")
    record = RunFolder.open(out).record()
    if record.get("data", {}).get("task") != TASK or not isinstance(record.get(TASK), dict):
        raise ValueError(f"{out} is no retrieval run; resume it without task=retrieval")
    return RetrievalPlan.from_json(record[TASK], f"the run in {out}")


def _fresh(plan: RetrievalPlan) -> Path:
    words = "+".join(text.split("(")[0] for text in plan.methods) or "plain"
    return free_folder(Path("runs") / f"{TASK}-{words}")


@dataclass(frozen=True)
class Fitting:
    """What the loop works with."""

    plan: RetrievalPlan
    source: CaptionSource
    model: RetrievalModel
    tokenizer: Tokenizer
    batches: TrainingBatches
    accelerator: Accelerator
    quiet: bool

    def run(self, folder: RunFolder, record: Mapping[str, Any]) -> None:
        """Train from the last checkpoint of `folder`, or from the start, to the end."""
        from accelerate.utils import set_seed

        training, train = self.plan.training, self.source.split("train")
        check_same(record, self.source)
        texts, owners = Texts(*self.tokenizer(train.captions)), torch.tensor(train.owners)
        optimizer = self.accelerator.prepare(make_optimizer(self.model, training))
        picked = restore(folder, self.model, optimizer)
        if not self.quiet:
            sys.stdout.write(opening_words(record, len(train.captions)))
        for epoch in range(picked.last, training.epochs):
            self.batches.start(epoch)
            set_seed(mixed_seed(training.seed, epoch))
            started = time.perf_counter()
            row = {"epoch": epoch + 1, **self._epoch(epoch, texts, owners, optimizer)}
            row["lr"] = max(group["lr"] for group in optimizer.param_groups)
            row["seconds"] = round(time.perf_counter() - started, 3)
            if bad := self.batches.replaced(self.accelerator):
                row["bad_images"] = bad
            if "val" in self.source.splits:
                found = measure(self.model, self.tokenizer, self.source.split("val"), training)
                row["val_mean_recall"] = found.best.mean
            folder.append_history(row)
            picked = picked.after(row, "last")
            folder.save_checkpoint(epoch + 1, snapshot(self.model, optimizer, picked))
            if not self.quiet:
                sys.stdout.write(in_words(row, training.epochs) + "\n")

    def _epoch(self, epoch: int, texts: Texts, owners: Tensor, optimizer: Any) -> dict[str, Any]:
        model, training, device = self.model.train(), self.plan.training, self.accelerator.device
        steps, total = len(self.batches.loader), torch.zeros(3, device=device)
        for step, (images, numbers) in enumerate(self.batches.loader):
            progress = epoch + step / steps
            set_rates(optimizer, training, progress)
            model.set_progress(progress)
            draw_budgets(model.vision, training.seed, epoch, step)
            read = texts.rows(numbers)
            with self.accelerator.autocast():
                losses = model.losses(Pairs(images, read.ids, read.mask, owners[numbers]).to(device))
            self.accelerator.backward(losses.total)
            if training.clip_grad is not None:
                self.accelerator.clip_grad_norm_(model.trained().values(), training.clip_grad)
            optimizer.step()
            optimizer.zero_grad()
            model.after_step()
            parts = (losses.total, losses.itc, losses.itc.new_zeros(()) if losses.itm is None else losses.itm)
            total += torch.stack([part.detach().float() for part in parts])
        mean = (total / steps).tolist()
        check_finite(mean[0], epoch, steps - 1)
        found = {"train_loss": mean[0], "itc": mean[1]}
        return found | ({"itm": mean[2]} if model.itm_head is not None else {})


def opening_words(record: Mapping[str, Any], captions: int) -> str:
    """What trains, by tower, and on what."""
    found = record["costs"]
    trained = ", ".join(f"{name} {count:,}" for name, count in found["trained_by_tower"].items() if count)
    lines = [
        f"trains: {trained} of {found['total_parameters']:,} parameters in the towers",
        f"data: {captions:,} captions of {record['data']['images']['train']:,} pictures",
        f"vision tower: {found['gmacs']:.3f} GMACs a picture, {found['tokens'][-1]} tokens at its end",
        *record["data"].get("notes", ()),
    ]
    return "\n".join(lines) + "\n"


def in_words(row: Mapping[str, Any], epochs: int) -> str:
    parts = [f"{name} {row[name]:.4f}" for name in ("itc", "itm") if name in row]
    if "val_mean_recall" in row:
        parts.append(f"val mean recall {100 * row['val_mean_recall']:.1f} %")
    parts.append(f"{row['seconds']:.1f} s")
    return f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.4f}, {', '.join(parts)}"


def finish(fitting: Fitting, folder: RunFolder, record: Mapping[str, Any]) -> RetrievalRun:
    """Measure on the test pictures; write the model and the results."""
    part = "test" if "test" in fitting.source.splits else "val"
    found = measure(fitting.model, fitting.tokenizer, fitting.source.split(part), fitting.plan.training)
    save_retrieval(fitting.model, fitting.tokenizer, fitting.plan, folder.path)
    results = {"split": part, **found.best.to_json(), "by_features_alone": found.plain.to_json()}
    done = {
        **record,
        "status": "finished",
        "finished": now(),
        "results": results,
        "model_bytes": (folder.path / MODEL_FILE).stat().st_size,
    }
    folder.write_record(done)
    return RetrievalRun(folder.path, fitting.model.eval(), fitting.tokenizer, found, done)


@readers_end_with_errors()
def evaluate_run(
    run: str | Path, data: str | None = None, root: str | Path | None = None, split: str | None = None,
    k_test: int = 128, beta: float = 0.0, batch_size: int | None = None, workers: int | None = None,
    cpu: bool = False,
) -> tuple[str, Found]:  # fmt: skip
    """The split that was measured, and what a trained model finds there."""
    model, tokenizer, plan = load_retrieval(run)
    source = open_captions(data or plan.data, plan.root if root is None else root, plan.training.seed)
    part = split or ("test" if "test" in source.splits else "val")
    asked = {"batch_size": batch_size, "workers": workers}
    training = plan.training.changed({name: value for name, value in asked.items() if value is not None})
    model.to(pick_device("cpu" if cpu else None))
    return part, measure(model, tokenizer, source.split(part), training, k_test, beta)
