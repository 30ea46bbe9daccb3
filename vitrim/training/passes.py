"""Epoch after epoch, from the last checkpoint of a run to its end: the same for every task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vitrim.runs.batches import TrainingBatches, mixed_seed
from vitrim.runs.folder import RunFolder
from vitrim.settings.epoch_choice import Picked
from vitrim.settings.training_choices import Select
from vitrim.training.checkpoint import Trained, keep_epoch
from vitrim.training.epoch import Learning, train_epoch
from vitrim.training.progress import Progress
from vitrim.training.tracking import track


@dataclass(frozen=True)
class Passes:
    """What a run passes through.

    Attributes:
        learning: what one pass works with.
        trained: what checkpoints hold.
        batches: whose order and changes each epoch decides.
        select: how the kept epoch is chosen.
        watch: the figures of the weights as they would be saved now, beside the row of the epoch.
    """

    learning: Learning
    trained: Trained
    batches: TrainingBatches
    select: Select
    watch: Callable[[Mapping[str, Any]], Mapping[str, Any]]

    def run(self, folder: RunFolder, picked: Picked, progress: Progress) -> Picked:
        """Every epoch after the last of `picked`, each written down before the next begins."""
        from accelerate.utils import set_seed

        training, accelerator = self.learning.training, self.learning.accelerator
        for epoch in range(picked.last, training.all_epochs):
            if picked.waited_enough(training):
                progress.say(f"stops early: no better validation for {training.patience} epochs")
                break
            self.batches.start(epoch)
            self.learning.model.set_progress(epoch)
            set_seed(mixed_seed(training.seed, epoch, accelerator.process_index))
            started = time.perf_counter()
            loss = train_epoch(self.learning, epoch, progress)
            rate = max(group["lr"] for group in self.learning.optimizer.param_groups)
            row: dict[str, Any] = {"epoch": epoch + 1, "train_loss": loss, "lr": rate}
            row["seconds"] = round(time.perf_counter() - started, 3)
            if bad := self.batches.replaced(accelerator):
                row["bad_images"] = bad
            row |= self.watch(row)
            picked = keep_epoch(folder, self.trained, row, picked, self.select)
            progress.epoch_done(row)
            track(accelerator, row)
        return picked
