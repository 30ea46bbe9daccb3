"""What training prints: a moving bar on a terminal, one plain line per epoch everywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vitrim.data.tolerance import replaced
from vitrim.settings.deviations import in_words
from vitrim.settings.task_kinds import TASK_KINDS, kind_of, main_figure

ORIGINS = {
    "random": "random (nothing was learned before; pretrained or weights would change that)",
    "file": "a local file",
    "pretrained": "timm's pretrained ones",
    "bundled": "bundled with vitrim",
    "module": "as passed in",
}


class Progress:
    """Shows the steps of a training run. Use as a context, so that a stop leaves the terminal in order."""

    def __init__(self, epochs: int, steps: int, shown: bool = True) -> None:
        from rich.console import Console

        self.epochs = epochs
        self.steps = steps
        self.shown = shown
        self.console = Console(soft_wrap=True, highlight=False)
        self.bar = self._bar() if shown and self.console.is_terminal else None

    def __enter__(self) -> Progress:
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
        if "bad_images" in row:
            parts.append(replaced(row["bad_images"]))
        self.say("  ".join(parts))

    def _bar(self) -> Any:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
        bar = RichProgress(*columns, TimeRemainingColumn(), console=self.console, transient=True)
        bar.add_task("training", total=self.epochs * self.steps)
        return bar


def opening_lines(record: Mapping[str, Any], folder: Path, done: int) -> str:
    """What is about to be trained, in a few lines."""
    settings, found, images = record["settings"], record["costs"], record["data"]["images"]
    sizes = ", ".join(f"{count:,} {name}" for name, count in images.items() if name != "trainval")
    origin = record["backbone"]["kind"]
    kind = TASK_KINDS[record["data"].get("task", "classify")]
    lines = [
        f"backbone  {settings['model']}, weights: {ORIGINS.get(origin, origin)}",
        f"data      {record['data']['spec']}: {len(record['data']['classes'])} {kind.outputs}, "
        f"images: {sizes}",
        *task_line(record["data"]),
        *(f"          {note}" for note in record["data"].get("notes", ())),
        f"methods   {', '.join(settings['methods']) or 'none: only the classifier trains'}",
        f"trains    {found['trained_parameters']:,} of {found['total_parameters']:,} parameters; "
        f"{found['gmacs']:.3f} GMACs per image",
        *protocol_lines(record.get("protocol"), settings["per_task"]),
        *teacher_line(record.get("teacher")),
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


def protocol_lines(protocol: Mapping[str, Any] | None, per_task: bool) -> list[str]:
    """Which published protocol is followed, and where it is not."""
    if protocol is None:
        return []
    values = ", with its values for this task" if per_task and protocol["task_values"] else ""
    lines = [f"protocol  {protocol['name']}{values}: {protocol['follows']}"]
    if protocol["deviations"]:
        lines.append(f"differs   {in_words(protocol['deviations'])}")
    return lines


def teacher_line(teacher: Mapping[str, Any] | None) -> list[str]:
    """Where there is a teacher, what is learned from it."""
    return [f"teacher   {teacher['path']}, compared: {' and '.join(teacher['compared'])}"] if teacher else []
