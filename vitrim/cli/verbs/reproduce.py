"""vitrim reproduce"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrim.cli.verbs.shared import steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jsonargparse import ArgumentParser, Namespace
    from rich.console import Console

    from vitrim.papers.verdicts import Cell

DESCRIPTION = """
Recompute the tables of the three papers vitrim implements: parameters and operations of every row, from the
composed models, beside what is printed, with a verdict and a reason. Needs no weights, data or GPU.
"""

EXAMPLES = """
vitrim reproduce fpet --table A3
vitrim reproduce all --markdown docs/reproduction.md --json ledger.json
vitrim reproduce sparse-tuning --table II --runs runs
vitrim reproduce fpet --table 1 --measure --model vit_tiny_patch16_224
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("paper", type=str, metavar="PAPER", help="sparse-tuning, tr-pts, fpet or all")
    parser.add_argument("--table", type=str | None, metavar="NAME", help="one table only, such as IX or A3")
    files = parser.add_argument_group("files to write")
    for name, words in (("json", "cells"), ("csv", "cells and means"), ("markdown", "tables with reasons")):
        files.add_argument(f"--{name}", type=str | None, metavar="FILE", help=words)
    parser.add_argument(
        "--runs", type=str | None, metavar="FOLDER",
        help="put the accuracies of the finished VTAB-1K runs below this folder beside the papers'",
    )  # fmt: skip
    measured = parser.add_argument_group("measuring")
    measured.add_argument(
        "--measure", action="store_true",
        help="time and memory of the table's rows on this machine, beside the plain backbone in one run",
    )  # fmt: skip
    measured.add_argument(
        "--model", type=str, default="vit_small_patch16_224", metavar="NAME",
        help="backbone of 12 blocks (usually vit_small_patch16_224; the papers': vit_base_patch16_224)",
    )  # fmt: skip
    measured.add_argument("--batch_size", type=int, default=8, metavar="N", help="images (usually 8)")
    measured.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each row (usually 5)")
    measured.add_argument(
        "--device", type=str | None, metavar="NAME", help="cpu or cuda; not given: the GPU if there is one"
    )


def run(chosen: Namespace) -> None:
    from rich.console import Console

    from vitrim.measuring.machine import cpu_count
    from vitrim.papers.accuracy import MEANS
    from vitrim.papers.page import tables, whole_page
    from vitrim.papers.runs import accuracies, as_markdown
    from vitrim.papers.verdicts import find_papers, find_tables, reproduce
    from vitrim.papers.writing import as_csv, as_json, write_text

    # Refused before anything is counted
    names = {
        (paper.key, table.name)
        for paper in find_papers(chosen.paper)
        for table in find_tables(paper, chosen.table)
    }
    if chosen.paper == "all" and chosen.measure:
        raise ValueError("--measure takes the rows of one table; name a paper and a table")
    found = None if chosen.runs is None else accuracies(chosen.runs)
    with steps("counting compositions") as tick:
        cells = reproduce(chosen.paper, chosen.table, processes=cpu_count(), tick=tick)
    console = Console()
    say(console, cells, details=chosen.paper != "all")
    ours = "" if found is None else as_markdown(found)
    if ours:
        console.print(ours, markup=False, highlight=False, soft_wrap=True)
    if chosen.measure:
        ours += measure(console, chosen)
    means = [mean for mean in MEANS if (mean.paper, mean.table) in names]
    page = whole_page(cells) if chosen.paper == "all" and chosen.table is None else tables(cells)
    texts = {"json": lambda: as_json(cells), "csv": lambda: as_csv(cells, means),
             "markdown": lambda: page + (f"\n{ours}" if ours else "")}  # fmt: skip
    for name, text in texts.items():
        if chosen[name] is not None:
            write_text(chosen[name], text())
            console.print(f"written: {chosen[name]}", markup=False, highlight=False, soft_wrap=True)


def say(console: Console, cells: Sequence[Cell], details: bool) -> None:
    """Tables with their reasons, and how many cells agree."""
    from rich.table import Table

    from vitrim.papers.verdicts import VERDICTS
    from vitrim.papers.writing import by_table, counts, numbered, on_terminal

    for _, found in by_table(cells) if details else ():
        console.print(on_terminal(found))
        for number, reason in enumerate(numbered(found)[1], start=1):
            console.print(f"({number}) {reason}", markup=False, highlight=False)
        console.print()
    summary = Table("paper", "table", *VERDICTS, box=None, pad_edge=False)
    for names, found in by_table(cells):
        summary.add_row(*names, *map(str, counts(found)))
    summary.add_row("all", "", *map(str, counts(cells)))
    console.print(summary)


def measure(console: Console, chosen: Namespace) -> str:
    """Measured columns of one table, printed and as Markdown."""
    from vitrim.papers.measuring import measure_table

    text = measure_table(
        chosen.paper, chosen.table, chosen.model, chosen.batch_size, chosen.rounds, chosen.device
    )
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return text
