"""Printed figures beside ours, with a verdict for each and the reason where they are not the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from vitrim.checks import did_you_mean
from vitrim.papers.fpet import FPET
from vitrim.papers.reading import Job, Reading, Tick, count_ahead
from vitrim.papers.reasons import ONLY_OF_DIFFERENCES, REASONS
from vitrim.papers.sparse_tuning import SPARSE_TUNING
from vitrim.papers.tables import COLUMNS, Paper, Row, Table
from vitrim.papers.tr_pts import TR_PTS

PAPERS = {paper.key: paper for paper in (SPARSE_TUNING, TR_PTS, FPET)}
VERDICTS = ("agrees", "differs", "not derivable")


@dataclass(frozen=True)
class Cell:
    """A printed figure and ours.

    Attributes:
        paper, table, row, column, printed: the figure as the paper has it.
        computed: ours, in the unit of the column; None where it cannot be derived.
        verdict: "agrees" where ours rounds to what is printed, "differs" or "not derivable".
        reason: why it differs, or what has to be assumed for it to agree.
    """

    paper: str
    table: str
    row: str
    column: str
    printed: str
    computed: float | None
    verdict: str
    reason: str


def reproduce(
    paper: str = "all", table: str | None = None, processes: int = 1, tick: Tick = lambda done, of: None
) -> list[Cell]:
    """The cells of a paper's tables, or of one table, or of all papers ("all"), computed anew by so many
    processes; `tick` is told how many compositions are counted, of how many.

    >>> [cell.verdict for cell in reproduce("fpet", "A2")]
    ['agrees', 'agrees', 'agrees']

    Raises:
        ValueError: for a paper or table there is none of.
    """
    chosen = [(one, found) for one in find_papers(paper) for found in find_tables(one, table)]
    count_ahead(
        (job for _, found in chosen for row in found.rows for job in jobs(found, row)), processes, tick
    )
    return [cell for one, found in chosen for cell in cells(one, found)]


def find_papers(name: str) -> list[Paper]:
    """One paper by its key, or all."""
    if name == "all":
        return list(PAPERS.values())
    if name not in PAPERS:
        raise ValueError(f"no paper {name!r}; {did_you_mean(name, [*PAPERS, 'all'])}")
    return [PAPERS[name]]


def find_tables(paper: Paper, name: str | None) -> Iterable[Table]:
    """One table by its name, or all."""
    by_name = {table.name: table for table in paper.tables}
    if name is None:
        return by_name.values()
    found = {known.lower(): known for known in by_name}.get(name.lower())
    if found is None:
        raise ValueError(f"{paper.key} has no table {name!r}; known are {', '.join(by_name)}")
    return [by_name[found]]


def cells(paper: Paper, table: Table) -> Iterator[Cell]:
    for row in table.rows:
        for index, (column, printed) in enumerate(zip(table.columns, row.printed, strict=True)):
            reading = row.reading_of(column)
            computed = None if reading is None else reading.compute(COLUMNS[column])
            verdict = judge(printed, computed)
            why = row.why if isinstance(row.why, str) else row.why[index]
            why = "" if verdict == "agrees" and why in ONLY_OF_DIFFERENCES else why
            reason = explain(row, column, printed, why)
            yield Cell(paper.name, table.name, row.name, column, printed, computed, verdict, reason)


def jobs(table: Table, row: Row) -> Iterator[Job]:
    """All compositions that a row needs."""
    for column in table.columns:
        also = [reading for _, reading in row.also.get(column, ())]
        for reading in filter(None, [row.reading_of(column), *also]):
            yield from reading.jobs(COLUMNS[column])
    for _, unit in row.units:
        yield from unit.jobs("params")


def judge(printed: str, computed: float | None) -> str:
    """Whether a figure of ours rounds to the printed one."""
    if computed is None:
        return "not derivable"
    figure = Decimal(printed)
    if printed == "0":  # no digits to round to: nothing trains
        return "agrees" if computed == 0 else "differs"
    half = Decimal(5).scaleb(int(figure.as_tuple().exponent) - 1)
    return "agrees" if abs(Decimal(repr(computed)) - figure) <= half else "differs"


def explain(row: Row, column: str, printed: str, why: str) -> str:
    """The reason, with the other readings of the cell computed."""
    parts = [REASONS[why]] if why else []
    quantity = COLUMNS.get(column, "")
    for words, reading in row.also.get(column, ()):
        parts.append(f"{words}: {shown(reading.compute(quantity), printed)}")
    if quantity in ("params", "percent"):
        parts += [
            f"the printed figure amounts to {count:.2f} {name}"
            for name, count in implied(row, quantity, printed)
        ]
    return "; ".join(parts)


def implied(row: Row, quantity: str, printed: str) -> Iterator[tuple[str, float]]:
    """How many prompts, connections or ranks the printed parameters amount to."""
    for name, unit in row.units:
        head = Reading(backbone=unit.backbone, head=unit.head).compute(quantity)
        one = Reading(unit.methods, unit.backbone).compute(quantity)
        yield name, (float(printed) - head) / one


def shown(computed: float, printed: str = "0.00") -> str:
    """A figure with two digits more than the printed one."""
    digits = max(0, -int(Decimal(printed).as_tuple().exponent)) if printed != "-" else 0
    return f"{computed:.{digits + 2}f}"
