"""What training prints: a moving bar on a terminal, one plain line per epoch everywhere else; and how long it
will take, as soon as the first batches are done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vitrim.data.tolerance import replaced
from vitrim.measuring.durations import in_units
from vitrim.settings.deviations import in_words
from vitrim.settings.task_kinds import TASK_KINDS, kind_of, main_figure
from vitrim.settings.training import Training

REGULARISING = (
    "drop_path", "label_smoothing", "augment", "colour_jitter", "erasing", "mixup", "cutmix", "ema",
)  # fmt: skip
ORIGINS = {
    "random": "random (nothing was learned before; pretrained or weights would change that)",
    "file": "a local file",
    "pretrained": "timm's pretrained ones",
    "bundled": "bundled with vitrim",
    "module": "as passed in",
}


ENOUGH = 3  # batches after the first one, which is slower, that tell how long the others take

BY_IMAGE = ", at the mean number of tokens: how many are kept depends on the image"


class Progress:
    """Shows the steps of a training run. Use as a context, so that a stop leaves the terminal in order.

    `done` epochs were trained before, by a run that is resumed.
    """

    def __init__(self, epochs: int, steps: int, shown: bool = True, done: int = 0) -> None:
        self.epochs = epochs
        self.steps = steps
        self.done = done
        self.began = self.first = self.warm = time.perf_counter()
        self.expected = False
        self.shown = shown
        self.console = _console()
        self.bar = self._bar() if shown and self.console.is_terminal else None

    def __enter__(self) -> Progress:
        self.began = time.perf_counter()
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def say(self, line: str) -> None:
        if self.shown:
            self.console.print(line, markup=False)

    def pace(self, epoch: int, step: int) -> None:
        """Say once, after a few batches, how long the run will take."""
        if self.expected or epoch > self.done:
            return
        now = time.perf_counter()
        if step == 0:
            self.first = now
        if step < ENOUGH and step + 1 < self.steps:
            return
        self.expected = True
        each = (now - self.first) / step if step else now - self.began
        whole = each * self.steps * (self.epochs - self.done)
        if whole > 0:
            self.say(f"expected  about {in_units(whole)} of training, by the first {step + 1} batches")

    def step(self, epoch: int, step: int, loss: float) -> None:
        """`epoch` and `step` count from 0."""
        if self.bar is not None:
            text = f"epoch {epoch + 1}/{self.epochs}  loss {loss:.3f}"
            self.bar.update(self.bar.task_ids[0], description=text, completed=epoch * self.steps + step + 1)

    def epoch_done(self, row: Mapping[str, Any]) -> None:
        """Print a row of the history."""
        parts = [f"epoch {row['epoch']:>3}/{self.epochs}", f"loss {row['train_loss']:.4f}"]
        if kind_of(row, "val_") is not None:
            parts.append(f"validation {main_figure(row, before='val_')}")
        if kind_of(row, "test_") is not None:
            parts.append(f"test {main_figure(row, before='test_')} (watched: best on test)")
        parts += [f"lr {row['lr']:.2e}", f"{row['seconds']:.1f} s"]
        if "clips_per_second" in row:
            parts.append(f"{row['clips_per_second']:.1f} clips/s")
        if remaining := self.epochs - row["epoch"]:
            parts.append(f"{in_units(self._each_epoch(row['epoch']) * remaining)} left")
        if "bad_images" in row:
            parts.append(replaced(row["bad_images"]))
        self.say("  ".join(parts))

    def _each_epoch(self, epoch: int) -> float:
        """Seconds an epoch takes with measuring; the first one, which warms up, counts only while alone."""
        now, trained = time.perf_counter(), epoch - self.done
        if trained == 1:
            self.warm = now
            return now - self.began
        return (now - self.warm) / (trained - 1)

    def _bar(self) -> Any:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
        bar = RichProgress(*columns, TimeRemainingColumn(), console=self.console, transient=True)
        bar.add_task("training", total=self.epochs * self.steps)
        return bar


def _console() -> Any:
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False)


def say_line(line: str, shown: bool = True) -> None:
    """Print a line before there is any progress."""
    if shown:
        _console().print(line, markup=False)


def opening_lines(record: Mapping[str, Any], folder: Path, done: int) -> str:
    """What is about to be trained, in a few lines."""
    settings, found, images = record["settings"], record["costs"], record["data"]["images"]
    sizes = ", ".join(f"{count:,} {name}" for name, count in images.items() if name != "trainval")
    origin = record["backbone"]["kind"]
    kind = TASK_KINDS[record["data"].get("task", "classify")]
    lines = [
        f"backbone  {settings['model']}, weights: {ORIGINS.get(origin, origin)}",
        f"data      {record['data']['spec']}: {len(record['data']['classes'])} {kind.outputs}, "
        f"{record['data'].get('called', 'images')}: {sizes}",
        *task_line(record["data"]),
        *(f"          {note}" for note in record["data"].get("notes", ())),
        f"methods   {', '.join(settings['methods']) or 'none: only the classifier trains'}",
        f"trains    {found['trained_parameters']:,} of {found['total_parameters']:,} parameters; "
        f"{found['gmacs']:.3f} GMACs per image of {' x '.join(map(str, record['preprocess']['image_size']))} "
        f"pixels{BY_IMAGE if found.get('by_image') else ''}",
        *length_lines(settings["training"], record.get("chosen", {})),
        *protocol_lines(record.get("protocol"), settings["per_task"]),
        *teacher_line(record.get("teacher")),
        *init_line(record.get("init")),
        f"writes    {folder}" + (f", resumed after epoch {done}" if done else ""),
    ]
    return "\n".join(lines)


def task_line(data: Mapping[str, Any]) -> list[str]:
    """The kind of task, where it is another one than telling classes apart, and how it was found out."""
    task = data.get("task", "classify")
    if task == "classify":
        return []
    guessed = next((f": {note}" for note in data["notes"] if f"(task={task})" in note), "")
    return [f"task      {task}{guessed}"]


def length_lines(training: Mapping[str, Any], chosen: Mapping[str, str]) -> list[str]:
    """How long and how fast is trained, why so, and what the recipe brings against overfitting."""
    why = {name: f" ({reason})" for name, reason in chosen.items()}
    cooling = f" and {training['cooldown_epochs']} at min_lr" if training["cooldown_epochs"] else ""
    lines = [
        f"length    {training['epochs']} epochs{cooling}{why.get('epochs', '')}, batches of "
        f"{training['batch_size']}, lr {training['lr']:g}{why.get('lr', '')}"
    ]
    usual = Training().to_json()
    brought = [f"{name} {training[name]}" for name in REGULARISING if training[name] != usual[name]]
    if brought:
        lines.append(f"also      {', '.join(brought)}: against overfitting, in training only")
    return lines


def protocol_lines(protocol: Mapping[str, Any] | None, per_task: bool) -> list[str]:
    """Which published protocol is followed, and where it is not."""
    if protocol is None:
        return []
    values = ", with its values for this task" if per_task and protocol["task_values"] else ""
    lines = [f"protocol  {protocol['name']}{values}: {protocol['follows']}"]
    if protocol["deviations"]:
        lines.append(f"differs   {in_words(protocol['deviations'])}")
    return lines


def init_line(init: Mapping[str, Any] | None) -> list[str]:
    """Where a finished run is the start, what is taken from it."""
    if init is None:
        return []
    head = "its classifier too" if init["classifier"] == "kept" else "a new classifier, for other classes"
    return [f"starts    from the weights of {init['run']}; {head}"]


def teacher_line(teacher: Mapping[str, Any] | None) -> list[str]:
    """Where there is a teacher, what is learned from it."""
    return [f"teacher   {teacher['path']}, compared: {' and '.join(teacher['compared'])}"] if teacher else []
