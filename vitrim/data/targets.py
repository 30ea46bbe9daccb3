"""What the cells of a table ask of a picture: one class, several labels, or numbers.

`guess` names a kind of task only where nothing else can be meant, and otherwise says in a sentence what the
cells look like; `read_targets` turns cells into class numbers, rows of 0 and 1, or rows of numbers.
"""

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitrim.data.class_names import numbered

BARS = ("|", ";")  # between the labels of one cell; commas are part of many class names
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
FEW = 20  # different values up to which numbers may well be classes
LONGEST = 10_000  # letters of a cell that is read as a list
ASK = "say which with task=classify, task=multilabel or task=regress (--task)"


@dataclass(frozen=True)
class Targets:
    """What every picture is to be given, and the names of the outputs."""

    task: str
    names: tuple[str, ...]
    values: tuple[Any, ...]
    """a class number for each picture, or a tuple of numbers, one for each name"""
    note: str | None = None
    """how the cells were read, where that was not the usual way"""


def guess(cells: Sequence[tuple[str, ...]], where: str) -> str:
    """The kind of task the cells are certainly of; a ValueError where they may be of two."""
    if len(cells[0]) > 1:
        return _guess_columns(cells, where)
    texts = [row[0] for row in cells]
    lists = sum(_looks_like_list(text) for text in texts)
    if lists == len(texts):
        return "multilabel"
    if lists:
        raise ValueError(
            f"{where}: {lists:,} of {len(texts):,} labels are lists and the others are not; {ASK}"
        )
    for mark in (*BARS, ","):
        if any(mark in text for text in texts):
            return _guess_marked(texts, mark, where)
    return _guess_numbers(texts, where) if all(map(is_number, texts)) else "classify"


def _guess_columns(cells: Sequence[tuple[str, ...]], where: str) -> str:
    if all(value in ("0", "1") for row in cells for value in row):
        return "classify" if all(row.count("1") == 1 for row in cells) else "multilabel"
    if all(is_number(value) for row in cells for value in row):
        return "regress"
    raise ValueError(
        f"{where}: several columns are labels of 0 and 1, or numbers, but these hold other words; name one "
        "column with label=COLUMN"
    )


def _guess_marked(texts: Sequence[str], mark: str, where: str) -> str:
    """Labels between bars, unless they form a tree: Plants|Rose, Plants|Tulip may be names of classes."""
    rows = {tuple(_parts(text, mark)) for text in texts}
    paths: dict[str, set[tuple[str, ...]]] = {}
    for row in rows:
        for place, part in enumerate(row):
            paths.setdefault(part, set()).add(row[:place])
    tangled = any(len(before) > 1 for before in paths.values())
    met = Counter(part for row in rows for part in set(row))
    recurring = 2 * sum(count > 1 for count in met.values()) >= len(met)
    if mark in BARS and tangled:
        return "multilabel"
    if mark != "|" and not recurring:
        return "classify"  # such as African elephant, Loxodonta africana
    example = next(text for text in texts if mark in text)
    raise ValueError(
        f"{where}: labels such as {example[:60]!r} look like several labels of one picture, but may be names "
        f"of classes with {mark!r} in them; {ASK}"
    )


def _guess_numbers(texts: Sequence[str], where: str) -> str:
    counts = Counter(map(float, texts))
    whole = all(value.is_integer() for value in counts)
    spread, rarest = max(counts) - min(counts) + 1, min(counts.values())
    shown = ", ".join(list(dict.fromkeys(texts))[:3])
    if not whole and (len(counts) > FEW or 2 * len(counts) > len(texts)):
        return "regress"
    if not whole or (len(counts) > FEW and len(counts) != spread and rarest < 3):
        raise ValueError(
            f"{where}: {len(counts):,} different numbers ({shown} ...) look like something measured, but may "
            f"be names of classes; {ASK}"
        )
    return "classify"


def is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def read_targets(
    task: str, columns: Sequence[str], cells: Sequence[tuple[str, ...]], lines: Sequence[str]
) -> Targets:
    """The targets of pictures by their cells; `lines` says where each row stands, for sentences."""
    if task == "regress":
        return Targets(task, tuple(columns), tuple(map(_numbers, cells, lines)))
    if len(columns) > 1:
        return _one_hot(task, columns, cells, lines)
    texts = [row[0] for row in cells]
    if task == "classify":
        number = numbered(texts)
        return Targets(task, tuple(number), tuple(number[text] for text in texts))
    rows = [_labels(text, texts_mark(texts), line) for text, line in zip(texts, lines, strict=True)]
    names = tuple(sorted({label for row in rows for label in row}))
    if not names:
        raise ValueError(f"{lines[0]}: no picture of the table has a label")
    place = {name: index for index, name in enumerate(names)}
    values = []
    for row in rows:
        marks = [0] * len(names)
        for label in row:
            marks[place[label]] = 1
        values.append(tuple(marks))
    return Targets(task, names, tuple(values))


def texts_mark(texts: Sequence[str]) -> str:
    """What stands between the labels of a cell."""
    return next((mark for mark in (*BARS, ",") if any(mark in text for text in texts)), BARS[0])


def _numbers(row: tuple[str, ...], line: str) -> tuple[float, ...]:
    for text in row:
        if not is_number(text):
            raise ValueError(f"{line}: {text[:60]!r} is not a number, and task=regress takes numbers alone")
    return tuple(map(float, row))


def _one_hot(
    task: str, columns: Sequence[str], cells: Sequence[tuple[str, ...]], lines: Sequence[str]
) -> Targets:
    for row, line in zip(cells, lines, strict=True):
        odd = [value for value in row if value not in ("0", "1")]
        if odd:
            raise ValueError(f"{line}: label columns hold 0 and 1, but here is {odd[0][:60]!r}")
        if task == "classify" and row.count("1") != 1:
            raise ValueError(
                f"{line}: {row.count('1')} of the columns {', '.join(columns)} are 1, but one class a "
                "picture is asked for; several labels a picture are task=multilabel"
            )
    if task == "classify":
        note = f"the columns {', '.join(columns)[:80]} hold one 1 in every line: they are the classes"
        return Targets(task, tuple(columns), tuple(row.index("1") for row in cells), note)
    return Targets(task, tuple(columns), tuple(tuple(map(int, row)) for row in cells))


def _labels(text: str, mark: str, line: str) -> list[str]:
    """The labels of one cell: a list, or labels between bars; [] and a lone bar are none."""
    if not _looks_like_list(text):
        return [part for part in _parts(text, mark) if part]
    found = _as_list(text)
    if found is None:
        raise ValueError(f'{line}: {text[:60]!r} is not a list of labels such as ["red", "dark"]')
    return found


def _parts(text: str, mark: str) -> list[str]:
    return [part.strip() for part in text.split(mark)]


def _looks_like_list(text: str) -> bool:
    return text.startswith("[") and text.endswith("]")


def _as_list(text: str) -> list[str] | None:
    """A list as JSON or as Python prints it; None where it is neither."""
    if len(text) > LONGEST:
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(label, str | int) for label in found):
            return [str(label).strip() for label in found]
    return None
