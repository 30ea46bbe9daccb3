"""Accuracies of many runs as the papers print them: recipes by tasks, means over seeds, groups and all.
Runs of other tasks than classes have the main figure of theirs, in a column that names it.

The two averages in use differ: the mean over the 19 tasks, and the mean of the three group means, in which
the four specialized tasks count as much as the eight structured ones. Both are given, over the tasks there
are.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrim.data.vtab_tasks import TASKS
from vitrim.settings.task_kinds import TaskKind
from vitrim.sweep.found import Found
from vitrim.sweep.rows import group_of

GROUPS = tuple(dict.fromkeys(task.group for task in TASKS.values()))  # natural, specialized, structured
APART = ("seed", "data", "teacher")  # settings in which the runs of one row may differ


@dataclass(frozen=True)
class Cell:
    """One recipe on one task: percent right, or the main figure of another kind of task."""

    mean: float
    std: float | None
    """sample standard deviation over seeds; None for one seed"""
    seeds: int
    by_test: bool = False
    """whether weights were selected by test accuracy"""
    on_val: bool = False
    """whether it was measured on val, for want of test images"""
    digits: int = 2
    """how many are shown behind the point"""


@dataclass(frozen=True)
class Line:
    """One recipe: its cells by task, and what it costs (means over its runs)."""

    name: str
    cells: Mapping[str, Cell]
    gmacs: float
    gmacs_paper: float
    trained: float
    """parameters that train, without the classifier where the runs know its size"""

    def means(self) -> dict[str, float]:
        return {task: cell.mean for task, cell in self.cells.items()}


@dataclass(frozen=True)
class Table:
    """Lines, and the tasks in order: VTAB's as the papers order them, then others."""

    tasks: tuple[str, ...]
    lines: tuple[Line, ...]
    unfinished: int
    notes: tuple[str, ...] = ()
    kinds: tuple[TaskKind, ...] = ()
    """which kinds of task there are; a mean is taken over one alone"""

    @property
    def vtab(self) -> tuple[str, ...]:
        return tuple(task for task in self.tasks if group_of(task))

    def complete(self, line: Line) -> bool:
        """Whether averages of a line are over the same tasks as those of the others."""
        return set(line.cells) >= set(self.vtab or self.tasks)


def group_means(means: Mapping[str, float]) -> dict[str, float]:
    """The mean of every group's tasks, in the papers' order; tasks that are not VTAB's are left out."""
    members: dict[str, list[float]] = {group: [] for group in GROUPS}
    for task, mean in means.items():
        if group_of(task):
            members[group_of(task)].append(mean)
    return {group: statistics.fmean(values) for group, values in members.items() if values}


def make_table(found: Sequence[Found], by: Sequence[str] = ("recipe",)) -> Table:
    """Group runs into lines by what `by` names, and average over seeds.

    Raises:
        ValueError: if runs of one cell differ in more than the seed, or none is finished.
    """
    finished = [run for run in found if run.row["status"] == "finished"]
    if not finished:
        raise ValueError(f"none of the {len(found)} runs has finished")
    lines: dict[str, dict[str, list[Found]]] = {}
    for run in finished:
        cell = lines.setdefault(title(run, by), {}).setdefault(column(run), [])
        cell.append(run)
    for name, cells in lines.items():
        refuse_several_models(name, [run for runs in cells.values() for run in runs], by)
        for task, runs in cells.items():
            refuse_mixture(name, task, runs, by)
    tasks = in_order([column(run) for run in finished])
    notes = list(dict.fromkeys(filter(None, (deviation(run, by) for run in finished))))
    notes += [
        f"{run.row['task']}: {note}" for run in finished for note in run.notes if "not comparable" in note
    ]
    return Table(
        tasks,
        tuple(make_line(name, cells) for name, cells in lines.items()),
        unfinished=len(found) - len(finished),
        notes=tuple(dict.fromkeys(notes)),
        kinds=tuple(dict.fromkeys(measured(run) for run in finished)),
    )


def measured(run: Found) -> TaskKind:
    """The kind of a finished run; refused where it holds no figure that a table could have."""
    if run.kind is None:
        raise ValueError(
            f"{run.row['folder']} is finished, but its run.json has no accuracy, mAP, R2 or mIoU for a "
            "table; give a folder without it"
        )
    return run.kind


def column(run: Found) -> str:
    """What a run's column is called: its task, and what is measured where that is no accuracy."""
    kind = measured(run)
    task = str(run.row["task"])
    return task if kind.name == "classify" else f"{task}, {kind.heading}"


def title(run: Found, by: Sequence[str]) -> str:
    """What a run's line is called."""
    return " | ".join(
        str(value_of(run, name)) if name == "recipe" else f"{name}={value_of(run, name)}" for name in by
    )


def deviation(run: Found, by: Sequence[str]) -> str | None:
    """How a run differs from the protocol its row names, in words."""
    row = run.row
    if not row["deviations"]:
        return None
    return f"{title(run, by)} is not trained as {row['protocol']}: {row['deviations']}"


def value_of(run: Found, name: str) -> Any:
    if name in ("recipe", "model", "methods", "image_size", "folder"):
        return run.row[name]
    if name in run.settings:
        return run.settings[name]
    from vitrim.checks import did_you_mean

    raise ValueError(
        f"runs cannot be told apart by {name!r}; {did_you_mean(name, ['recipe', *run.settings])}"
    )


def in_order(tasks: Sequence[str]) -> tuple[str, ...]:
    """Each task once: VTAB's in the papers' order, then the others as they come."""
    canonical = {f"vtab:{name}": index for index, name in enumerate(TASKS)}
    return tuple(sorted(dict.fromkeys(tasks), key=lambda task: canonical.get(task, len(canonical))))


def refuse_several_models(name: str, runs: Sequence[Found], by: Sequence[str]) -> None:
    """One row is one model, on all of its tasks."""
    for key in ("model", "image_size"):
        values = list(dict.fromkeys(str(run.row[key]) for run in runs))
        if len(values) > 1:
            raise ValueError(
                f"runs of {name!r} have {key} {values[0]} on some tasks and {values[1]} on others, which no "
                f"average can be taken over; tell them apart with --by {' '.join([*by, key])}"
            )


def refuse_mixture(name: str, task: str, runs: Sequence[Found], by: Sequence[str]) -> None:
    """Only seeds are averaged over."""
    first = runs[0]
    for index, run in enumerate(runs):
        names = [key for key in {**first.settings, **run.settings} if key not in APART]
        differ = [key for key in names if first.settings.get(key) != run.settings.get(key)]
        if differ:
            raise ValueError(
                f"runs of {name!r} on {task} differ in {', '.join(differ)} ({first.row['folder']} and "
                f"{run.row['folder']}); tell them apart with --by {' '.join([*by, differ[0]])}"
            )
        twin = next((other for other in runs[:index] if other.row["seed"] == run.row["seed"]), None)
        if twin is not None:
            raise ValueError(
                f"two runs of {name!r} on {task} have seed {run.row['seed']}: {twin.row['folder']} and "
                f"{run.row['folder']}; give a folder that holds one of them"
            )


def make_line(name: str, cells: Mapping[str, Sequence[Found]]) -> Line:
    rows = [run.row for runs in cells.values() for run in runs]
    return Line(
        name,
        {task: make_cell(runs) for task, runs in cells.items()},
        gmacs=statistics.fmean(row["gmacs"] for row in rows),
        gmacs_paper=statistics.fmean(row["gmacs_paper"] for row in rows),
        trained=statistics.fmean(row["trained"] - (row["trained_head"] or 0) for row in rows),
    )


def make_cell(runs: Sequence[Found]) -> Cell:
    kind, values = measured(runs[0]), []
    for run in runs:
        if run.figure is None:
            raise ValueError(
                f"the {kind.heading} of {run.row['folder']} is not defined on its {run.row['split']} images, "
                "so that a table has nothing to show for it; give a folder without it"
            )
        values.append(100 * run.figure if kind.percent else run.figure)
    return Cell(
        statistics.fmean(values),
        statistics.stdev(values) if len(values) > 1 else None,
        len(values),
        by_test=any(run.row["select"] == "best-on-test" for run in runs),
        on_val=any(run.row["split"] != "test" for run in runs),
        digits=2 if kind.percent else 4,
    )
