"""The ledger as JSON, CSV, Markdown and on the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from vitrim.papers.accuracy import TASKS, Published
from vitrim.papers.verdicts import PAPERS, VERDICTS, Cell, shown

if TYPE_CHECKING:
    from rich.table import Table

HEADER = ("row", "column", "paper", "ours", "difference", "verdict", "")


def as_json(cells: Sequence[Cell]) -> str:
    return json.dumps({"cells": [asdict(cell) for cell in cells]}, indent=1) + "\n"


def as_csv(cells: Sequence[Cell], means: Sequence[Published]) -> str:
    """One line for each cell, and for each mean of accuracies."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("paper", "table", "row", "column", "printed", "computed", "verdict", "reason"))
    writer.writerows(tuple(asdict(cell).values()) for cell in cells)
    for mean in means:
        computed = mean.mean19 if mean.kind == TASKS else mean.group_mean
        writer.writerow((
            PAPERS[mean.paper].name, mean.table, mean.row, f"accuracy, {mean.kind}",
            mean.printed, computed if mean.tasks else None, mean.verdict, mean.reason,
        ))  # fmt: skip
    return buffer.getvalue()


def by_table(cells: Iterable[Cell]) -> Iterator[tuple[tuple[str, str], list[Cell]]]:
    """Cells of each table together, with the names of paper and table."""
    for key, found in groupby(cells, key=lambda cell: (cell.paper, cell.table)):
        yield key, list(found)


def difference(cell: Cell) -> str:
    """Ours less the paper's."""
    if cell.computed is None:
        return ""
    gap = cell.computed - float(cell.printed)
    text = shown(gap, cell.printed)
    return "0" if float(text) == 0 else f"+{text}" if gap > 0 else text


def ours(cell: Cell) -> str:
    return "-" if cell.computed is None else shown(cell.computed, cell.printed)


def counts(cells: Iterable[Cell]) -> list[int]:
    """How many agree, differ and cannot be derived."""
    found = Counter(cell.verdict for cell in cells)
    return [found[verdict] for verdict in VERDICTS]


def on_terminal(cells: Sequence[Cell]) -> Table:
    """One table of a paper, for rich; reasons are numbered and stand below."""
    from rich.table import Table

    (paper, name) = cells[0].paper, cells[0].table
    table = Table(*HEADER, title=f"{paper}, Table {name}", title_justify="left", box=None, pad_edge=False)
    for line in numbered(cells)[0]:
        table.add_row(*line)
    return table


def numbered(cells: Sequence[Cell]) -> tuple[list[tuple[str, ...]], list[str]]:
    """The lines of a table with numbers in place of reasons, and the reasons."""
    reasons = list(dict.fromkeys(cell.reason for cell in cells if cell.reason))
    lines: list[tuple[str, ...]] = []
    before = ""
    for cell in cells:
        number = f"({reasons.index(cell.reason) + 1})" if cell.reason else ""
        row = "" if cell.row == before else cell.row
        before = cell.row
        lines.append((row, cell.column, cell.printed, ours(cell), difference(cell), cell.verdict, number))
    return lines, reasons


def as_markdown(cells: Sequence[Cell]) -> str:
    """One table of a paper."""
    table = next(one for one in PAPERS_BY_NAME[cells[0].paper].tables if one.name == cells[0].table)
    agree, differ, unknown = counts(cells)
    lines, reasons = numbered(cells)
    text = [
        f"### {cells[0].paper}, Table {table.name}: {table.about}",
        "",
        f"{agree} agree, {differ} differ, {unknown} not derivable.",
        "",
        *grid(HEADER, lines, "llrrrll"),
        "",
        *(f"{number}. {reason}." for number, reason in enumerate(reasons, start=1)),
    ]
    return "\n".join(text).rstrip() + "\n"


PAPERS_BY_NAME = {paper.name: paper for paper in PAPERS.values()}


def grid(header: Sequence[str], lines: Iterable[Sequence[str]], sides: str) -> list[str]:
    """A Markdown table; `sides` aligns each column left (l) or right (r)."""
    rule = ["---:" if side == "r" else "---" for side in sides]
    return ["| " + " | ".join(line) + " |" for line in (header, rule, *lines)]


def means_as_markdown(means: Sequence[Published]) -> str:
    """Printed means, beside both kinds of mean of the accuracies they come from."""
    lines = [
        (PAPERS[mean.paper].name, mean.table, mean.row, mean.printed, mean.kind,
         *(f"{value:.2f}" if mean.tasks and value is not None else "-"
           for value in (mean.mean19, mean.group_mean)),
         f"{mean.verdict}: {mean.reason}" if mean.reason else mean.verdict)
        for mean in means
    ]  # fmt: skip
    header = ("paper", "table", "row", "printed", "as", "mean of 19 tasks", "mean of 3 groups", "verdict")
    return "\n".join(grid(header, lines, "lllrlrrl")) + "\n"


def write_text(path: str | Path, text: str) -> None:
    """A whole file or none; its folder is made where it is missing."""
    from vitrim.writing import write_whole

    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; give the name of a file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot make the folder of {str(path)!r}: {error.strerror}") from error
    write_whole(target, text.encode())
