"""A table of accuracies as text: in the terminal, as Markdown, or as CSV with full precision."""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from vitrim.data.vtab_tasks import TASKS
from vitrim.sweep.grid import task_name
from vitrim.sweep.grouped import GROUPS, Cell, Line, Table, group_means
from vitrim.sweep.rows import group_of

if TYPE_CHECKING:
    from rich.table import Table as RichTable

NOTHING = "–"
MEASURES = {
    "classify": "Percent right", "multilabel": "mAP in percent", "regress": "R2", "segment": "mIoU in percent"
}  # fmt: skip
BY_TEST, ON_VAL = "†", "‡"


def headings(table: Table) -> list[str]:
    """The titles of the columns: tasks, each group's mean after its tasks, both averages, costs."""
    of_all = Counter(task.group for task in TASKS.values())
    here = Counter(group_of(task) for task in table.vtab)
    titles = [""]
    for group in GROUPS:
        titles += [task_name(task) for task in table.tasks if group_of(task) == group]
        titles += [f"{group}, mean of {here[group]} of {of_all[group]}"] if here[group] else []
    titles += [task for task in table.tasks if not group_of(task)]
    if table.vtab:
        titles += [f"mean of {len(table.vtab)} of {len(TASKS)} tasks"]
        titles += [f"mean of {len(here)} of {len(GROUPS)} group means"]
    elif mean_of_all(table):
        titles += [f"mean of {len(table.tasks)} tasks"]
    return [*titles, "GMACs", "GMACs, papers' count", "trained without head"]


def entries(table: Table, line: Line) -> list[Cell | None]:
    """The values of a line under those headings, without its name and costs. Averages have the marks of what
    they are taken over.
    """
    means = line.means()
    groups = group_means(means)
    values: list[Cell | None] = []
    for group in GROUPS:
        tasks = [task for task in table.vtab if group_of(task) == group]
        values += [line.cells.get(task) for task in tasks]
        values += [average(line, tasks, groups.get(group))] if tasks else []
    values += [line.cells.get(task) for task in table.tasks if not group_of(task)]
    if table.vtab:
        here = [means[task] for task in table.vtab if task in means]
        values += [average(line, table.vtab, statistics.fmean(here) if here else None)]
        values += [average(line, table.vtab, statistics.fmean(groups.values()) if groups else None)]
    elif mean_of_all(table):
        values += [average(line, table.tasks, statistics.fmean(means.values()))]
    return values


def mean_of_all(table: Table) -> bool:
    """Whether there is a mean over tasks that are not VTAB's: not over figures of several kinds."""
    return len(table.tasks) > 1 and len(table.kinds) == 1


def average(line: Line, tasks: Sequence[str], mean: float | None) -> Cell | None:
    """A mean over tasks; None where the line lacks one of them."""
    cells = [line.cells[task] for task in tasks if task in line.cells]
    if mean is None or len(cells) < len(tasks):
        return None
    by_test, on_val = any(cell.by_test for cell in cells), any(cell.on_val for cell in cells)
    return Cell(mean, None, min(cell.seeds for cell in cells), by_test, on_val, cells[0].digits)


def in_words(value: Cell | None) -> str:
    if value is None:
        return NOTHING
    spread = "" if value.std is None else f" ± {value.std:.{value.digits}f}"
    return f"{value.mean:.{value.digits}f}{spread}{BY_TEST * value.by_test}{ON_VAL * value.on_val}"


def body(table: Table) -> list[list[str]]:
    return [
        [
            line.name, *(in_words(value) for value in entries(table, line)),
            f"{line.gmacs:.3f}", f"{line.gmacs_paper:.3f}", f"{line.trained:,.0f}",
        ]
        for line in table.lines
    ]  # fmt: skip


def remarks(table: Table) -> list[str]:
    """What a reader has to know about the figures."""
    cells = [cell for line in table.lines for cell in line.cells.values()]
    seeds = sorted({cell.seeds for cell in cells})
    said = [", ".join(MEASURES[kind.name] for kind in table.kinds)]
    if seeds != [1]:
        counts = " or ".join(map(str, seeds))
        said[0] += f", mean ± sample standard deviation over {counts} seeds"
    said[0] += "; GMACs as executed and as papers count; costs are means over a row's runs."
    if any(cell.by_test for cell in cells):
        said.append(f"{BY_TEST} weights selected by their test figure, which makes it too high.")
    if any(cell.on_val for cell in cells):
        said.append(f"{ON_VAL} measured on val, not on test images.")
    if not all(table.complete(line) for line in table.lines):
        said.append(f"{NOTHING} not run; no average of a row that lacks tasks others have.")
    if table.unfinished:
        said.append(f"{table.unfinished} unfinished runs are left out.")
    return said + [f"{note}." for note in table.notes]


def markdown(table: Table) -> str:
    titles = headings(table)
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *body(table)]
    text = "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
    return text + "\n" + "".join(f"{line}\n" for line in remarks(table))


def to_csv(table: Table) -> str:
    """Means with full precision, and the deviation and number of seeds of every task beside them."""
    titles = headings(table)
    named: list[list[object]] = []
    for line in table.lines:
        values: list[object] = [line.name]
        for value in entries(table, line):
            values.append(None if value is None else value.mean)
        named.append([*values, line.gmacs, line.gmacs_paper, line.trained])
    tasks = list(table.tasks)
    extra = [f"{task_name(task)} {what}" for task in tasks for what in ("std", "seeds", "selected on test")]
    for line, values in zip(table.lines, named, strict=True):
        for task in tasks:
            cell = line.cells.get(task)
            values += [None] * 3 if cell is None else [cell.std, cell.seeds, cell.by_test]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["recipe", *titles[1:], *extra])
    writer.writerows(named)
    return text.getvalue()


def print_table(table: Table) -> None:
    """Print to the terminal; where that is too narrow, in parts that fit."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)  # names may have brackets
    titles, lines = headings(table), body(table)
    for columns in parts(titles, lines, console.width):
        console.print(rich_table(titles, lines, columns, console.width))
    for line in remarks(table):
        console.print(line, style="dim")


NAMES_SHARE, TITLE = 0.45, 24  # of the width that names may take; characters before a long word breaks


def parts(titles: Sequence[str], lines: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Columns, from the second on, in runs that fit beside the first one."""
    widths = [column_width(title, [line[index] for line in lines]) for index, title in enumerate(titles)]
    found: list[list[int]] = [[]]
    names = used = names_width(lines, width)
    for index in range(1, len(titles)):
        if found[-1] and used + widths[index] + 2 > width:
            found.append([])
            used = names
        found[-1].append(index)
        used += widths[index] + 2
    return found


def names_width(lines: Sequence[Sequence[str]], width: int) -> int:
    """Of the first column: long names go over several lines."""
    return min(max(len(line[0]) for line in lines), max(16, int(NAMES_SHARE * width)))


def column_width(title: str, cells: Sequence[str]) -> int:
    """Titles may break between words, and in very long ones; cells may not."""
    return max(*(min(len(word), TITLE) for word in ["", *title.split()]), *map(len, cells), 0)


def rich_table(
    titles: Sequence[str], lines: Sequence[Sequence[str]], columns: Sequence[int], width: int
) -> RichTable:
    from rich.table import Table as RichTable

    shown = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    names = names_width(lines, width)
    shown.add_column("", width=names)
    for index in columns:
        title = "\n".join(wrap(titles[index], column_width(titles[index], [line[index] for line in lines])))
        shown.add_column(title, justify="right", no_wrap=True)
    for line in lines:
        name = "\n".join(wrap(line[0], names, break_on_hyphens=False))
        shown.add_row(name, *(line[index] for index in columns))
    return shown
