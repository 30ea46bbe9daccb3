"""Lists of clips, one a line: a path, a label, between them perhaps something else.

Three conventions are about: a space (VideoMAE, AdaptFormer, DyT), a comma (V-PETL Bench), and a third column
in the middle. Paths may hold the separator: fields are split off at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vitrim.data.lists import DIGITS, Row, Rows, read_text
from vitrim.data.source import Spec

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": None}  # None: any run of white space
TRAIN = re.compile("train(ing)?", re.IGNORECASE)
SIBLINGS = {"val": ("val", "valid", "validation"), "test": ("test", "testing")}


def read_clip_list(file: Path, columns: Sequence[str], separator: str | None) -> Rows:
    """The rows of a list; `separator` is a name of `SEPARATORS`, or None to look at each line."""
    rows: Rows = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        fields = _fields(line.strip(), len(columns), separator)
        label = fields[columns.index("label")] if len(fields) == len(columns) else ""
        if not (label.isascii() and label.isdigit() and len(label) <= DIGITS) or not fields[0]:
            raise ValueError(
                f"{file}, line {number}: {line.strip()[:80]!r} is not {', '.join(columns)} with a label that "
                "is a whole number from 0; other columns are named with columns=path,length,label"
            )
        rows.append(Row(fields[0], int(label), file, number))
    if not rows:
        raise ValueError(f"{file} lists no clips")
    return rows


def _fields(line: str, count: int, separator: str | None) -> list[str]:
    if separator is None:
        separator = "comma" if line.rpartition(",")[2].strip().isdigit() and "," in line else "space"
    return [field.strip() for field in line.rsplit(SEPARATORS[separator], count - 1)]


def columns_of(spec: Spec) -> tuple[str, ...]:
    """What the lines of a list hold, as the spec says it."""
    columns = tuple(spec.options.get("columns", "path,label").split(","))
    if columns[0] != "path" or columns.count("label") != 1 or len(columns) > 3 or "" in columns:
        raise ValueError(
            f"{spec.kind} option columns={','.join(columns)} must begin with path and name the "
            "label, such as path,label or path,length,label"
        )
    return columns


def separator_of(spec: Spec) -> str | None:
    given = spec.options.get("delimiter")
    if given is not None and given not in SEPARATORS:
        raise ValueError(
            f"{spec.kind} option delimiter={given} must be one of {', '.join(SEPARATORS)}; left out, each "
            "line is looked at"
        )
    return given


def list_files(spec: Spec, file: Path) -> dict[str, Path]:
    """The list of each split: those the spec names, or those called like FILE with val or test for train."""
    found = {"train": file}
    for split, words in SIBLINGS.items():
        named = spec.options.get(split)
        if named is not None and not is_share(named):
            found[split] = file.parent / Path(named).expanduser()
            if not found[split].is_file():
                raise FileNotFoundError(
                    f"{spec.kind} option {split}={named}: there is no list {found[split]}"
                )
        elif named is None:
            names = [TRAIN.sub(word, file.name, count=1) for word in words if TRAIN.search(file.name)]
            beside = next((file.parent / name for name in names if (file.parent / name).is_file()), None)
            if beside is not None:
                found[split] = beside
    return found


def is_share(text: str) -> bool:
    """Whether val=0.1 is meant, and no file."""
    return re.fullmatch(r"[01]?\.\d+|[01]", text) is not None
