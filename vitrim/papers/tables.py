"""What a table of a paper holds: rows as printed, and how each is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitrim.papers.reading import Reading

# What the columns of the papers hold; units are millions, billions of multiply-accumulates and percent
COLUMNS = {
    "Params(M)": "params",
    "#param(M)": "params",
    "Params(%)": "percent",
    "GFLOPs": "gmacs",
    "GFLOPs img": "gmacs",
    "FLOPs(G)": "gmacs",
    "GFLOPs video": "video",
}


@dataclass(frozen=True)
class Row:
    """A row as printed.

    Attributes:
        name: of the row.
        printed: its figures, in the order of the table's columns.
        reading: what the row stands for; None where that is not known.
        why: the reason for each figure, by name in REASONS; one name stands for all of them.
        otherwise: readings of single columns that differ from the row's.
        also: other readings worth knowing, each with a few words; they are computed too.
        units: what one prompt, connection and the like trains, to say how many the printed parameters would
            be.
    """

    name: str
    printed: tuple[str, ...]
    reading: Reading | None = None
    why: str | tuple[str, ...] = ""
    otherwise: Mapping[str, Reading | None] = field(default_factory=dict)
    also: Mapping[str, tuple[tuple[str, Reading], ...]] = field(default_factory=dict)
    units: tuple[tuple[str, Reading], ...] = ()

    def reading_of(self, column: str) -> Reading | None:
        """What a column's figure stands for."""
        return self.otherwise.get(column, self.reading)


@dataclass(frozen=True)
class Table:
    """A table of a paper, or the part of it that holds parameters and operations."""

    name: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Paper:
    """A paper and its tables.

    Attributes:
        key: how the command line calls it.
        name: how the tables call it.
        source: title and number.
    """

    key: str
    name: str
    source: str
    tables: tuple[Table, ...]
