"""csv:FILE: a table with a column of image paths, one of labels and, if it likes, one of splits.

    path,label,split
    roses/1.jpg,rose,train

The first line names the columns. Separators may be commas, semicolons, tabs or bars. Usual names are found
by themselves, others are given: csv:FILE?path=photo&label=kind&split=fold. Paths are absolute, or relative to
the file's folder or to the root. Without a split column every class is split 70 / 10 / 20 by `seed`; with one
but no val, val=0.1 holds out a share of train.

Labels are words or whole numbers; or several of them a picture (red|dark, a list, columns of 0 and 1:
task=multilabel), or numbers to predict (task=regress; label=age,height names several columns). Which of these
is guessed only where it is certain: see targets.py.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vitrim.data.class_names import same_but_for_case
from vitrim.data.images import read_image
from vitrim.data.lists import Row, check_files, read_text
from vitrim.data.places import first_with
from vitrim.data.source import DataSource, Spec, Split, with_trainval
from vitrim.data.splitting import hold_out, some, split_whole
from vitrim.data.targets import BARS, Targets, guess, is_number, read_targets
from vitrim.network.target_scale import TASKS

USUAL = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img"),
    "label": ("label", "class", "target", "category", "label_name", "class_name", "y"),
    "split": ("split", "set", "partition", "subset"),
}
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLITS |= {"dev": "val", "test": "test", "testing": "test", "trainval": "trainval"}


@dataclass(frozen=True)
class Line:
    path: str
    label: tuple[str, ...]  # the cell of every label column
    split: str  # train where there is no such column
    number: int


def open_csv(spec: Spec) -> DataSource:
    spec.allow("path", "label", "split", "val", "seed", "task")
    if not spec.rest:
        raise ValueError("csv needs a file: write csv:FILE")
    file = spec.rooted(spec.rest)
    if not file.is_file():
        what = "is a folder, not a file" if file.is_dir() else "is not there"
        raise FileNotFoundError(f"{file} {what}; csv takes a table with columns path, label and maybe split")
    if spec.options.get("task", "classify") not in TASKS:
        raise ValueError(f"csv option task={spec.options['task']} is none of {', '.join(TASKS)}")
    labels, lines, has_splits = _lines(spec, file)
    _check_repeated(lines, file)
    targets = _targets(spec, file, labels, lines)
    if targets.task != "classify":
        spec = spec.with_options(task=targets.task)  # a guess is written down like a seed
    value = dict(zip((line.path for line in lines), targets.values, strict=True))
    folder = _folder(file, spec.root, lines[0])
    check_files(folder, [Row(line.path, 0, file, line.number) for line in lines])
    splits: dict[str, Split] = {}
    for name in dict.fromkeys(line.split for line in lines):
        part = [line for line in lines if line.split == name]
        splits[name] = Split(
            read_image, [str(folder / line.path) for line in part], [value[line.path] for line in part]
        )
    opened = _split(spec, file, splits, lines, targets.names, has_splits)
    notes = opened.notes if targets.note is None else (*opened.notes, targets.note)
    return replace(opened, task=targets.task, notes=notes)


def _targets(spec: Spec, file: Path, labels: tuple[str, ...], lines: list[Line]) -> Targets:
    """What the label columns hold, as asked for or as is certain."""
    cells = [line.label for line in lines]
    task = spec.options.get("task") or guess(cells, str(file))
    targets = read_targets(task, labels, cells, [f"{file}, line {line.number}" for line in lines])
    if task == "classify":
        _check_classes(targets.names, file)
    if task != "classify" and "task" not in spec.options:
        what = "several labels a picture" if task == "multilabel" else "numbers to predict"
        note = f"{', '.join(labels)[:80]} read as {what} (task={task})"
        if len(labels) == 1:
            note += "; task=classify reads them as classes"
        return replace(targets, note=note)
    return targets


def _split(
    spec: Spec, file: Path, splits: dict[str, Split], lines: list[Line], classes: tuple[str, ...], given: bool
) -> DataSource:
    seed = spec.integer("seed", spec.seed)
    if not given:
        if "val" in spec.options:
            raise ValueError(f"{file} has no split column and is split 70 / 10 / 20; leave val out")
        whole = splits["train"]
        found = split_whole(whole, [line.path for line in lines], classes, seed)
        what = "every class" if isinstance(whole.labels[0], int) else "all pictures"
        note = f"{what} split 70 / 10 / 20 with seed {seed}"
        return DataSource(str(spec.with_options(seed=seed)), classes, with_trainval(found), (note,))
    if "train" not in splits:
        raise ValueError(f"{file} has the splits {', '.join(splits)} but no train")
    keys = [line.path for line in lines if line.split == "train"]
    found = with_trainval(hold_out(spec, splits, keys))
    if not {"val", "test"} & set(found):
        raise ValueError(f"{file} has train images only; add val or test lines, or drop the split column")
    opened = spec.with_options(seed=seed) if "val" in spec.options else spec
    return DataSource(str(opened), classes, found)


def _lines(spec: Spec, file: Path) -> tuple[tuple[str, ...], list[Line], bool]:
    """The label columns, the lines of the table, and whether these say which split they are of."""
    columns, rows = _table(file)
    path, split = str(_column(spec, file, columns, "path")), _column(spec, file, columns, "split")
    labels = _label_columns(spec, file, columns, rows, {path, split})
    several = spec.options.get("task") == "multilabel" and len(labels) == 1
    marked = len(labels) == 1 and any(mark in field for _, row in rows for field in row for mark in BARS)
    hint = "; with task=multilabel that is a picture without labels" if marked else ""
    lines = []
    for number, row in rows:
        if len(row) != len(columns):
            raise ValueError(
                f"{file}, line {number}: {len(row)} fields where the first line has {len(columns)}"
            )
        values = dict(zip(columns, (field.strip() for field in row), strict=True))
        for name in (path, *([] if several else labels)):
            if not values[name]:
                raise ValueError(f"{file}, line {number}: nothing in the column {name!r}{hint}")
        part = _split_name(file, number, values[split]) if split else "train"
        lines.append(Line(values[path], tuple(values[name] for name in labels), part, number))
    if not lines:
        raise ValueError(f"{file} lists no images")
    return labels, lines, split is not None


def _label_columns(
    spec: Spec, file: Path, columns: list[str], rows: list[tuple[int, list[str]]], taken: set[str | None]
) -> tuple[str, ...]:
    """The columns that hold the labels: as named (several between commas), of a usual name, or all others
    where these hold 0 and 1 alone.
    """
    asked = spec.options.get("label", "")
    if "," in asked and asked not in columns:
        names = tuple(name.strip() for name in asked.split(","))
        missing = [name for name in names if name not in columns]
        if missing or len(set(names)) != len(names):
            what = f"no column {missing[0]!r}" if missing else f"label={asked} that names a column twice"
            raise ValueError(f"{file} has {what}; it has: {', '.join(columns)}")
        return names
    others = [name for name in columns if name not in taken]
    lower = {name.lower() for name in columns}
    if asked or len(others) < 2 or any(name in lower for name in USUAL["label"]):
        return (str(_column(spec, file, columns, "label")),)
    places = [columns.index(name) for name in others]
    cells = [row[place].strip() for _, row in rows if len(row) == len(columns) for place in places]
    if cells and all(cell in ("0", "1") for cell in cells):
        return tuple(others)
    if cells and all(map(is_number, cells)):
        raise ValueError(
            f"{file} has no label column, but numbers in {', '.join(others)[:80]}; to predict them write "
            f"label={','.join(others)[:80]}&task=regress into the spec, or name one with label=COLUMN"
        )
    return (str(_column(spec, file, columns, "label")),)


def _table(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and the rows below."""
    text = read_text(file)
    if not text.strip():
        raise ValueError(f"{file} is empty")
    head = text.lstrip("\r\n").splitlines()[0]
    try:
        rows = list(_rows(text, separator=max(",;\t|", key=head.count)))
    except csv.Error as error:
        raise ValueError(f"{file} is not a table ({error})") from error
    columns = [name.strip() for name in rows[0][1]]
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise ValueError(f"{file} has two columns called {twice[0]!r}")
    return columns, rows[1:]


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, with the number of their line."""
    reader = csv.reader(text.splitlines(), delimiter=separator)
    for row in reader:
        if any(field.strip() for field in row):
            yield reader.line_num, row


def _column(spec: Spec, file: Path, columns: list[str], what: str) -> str | None:
    """The column that holds the paths, labels or splits; None for splits where there is none."""
    asked = spec.options.get(what)
    if asked is not None and asked not in columns:
        raise ValueError(f"{file} has no column {asked!r}; it has: {', '.join(columns)}")
    lower = {name.lower(): name for name in columns}
    found = asked or next((lower[name] for name in USUAL[what] if name in lower), None)
    if found is None and what != "split":
        raise ValueError(
            f"{file} has no {what} column, its first line is {', '.join(columns)[:80]!r}; name it with "
            f"{what}=COLUMN, or write path,label or path,label,split as the first line"
        )
    return found


def _split_name(file: Path, number: int, given: str) -> str:
    if given.lower() not in SPLITS:
        raise ValueError(f"{file}, line {number}: split {given!r} is none of {', '.join(SPLITS)}")
    return SPLITS[given.lower()]


def _check_repeated(lines: list[Line], file: Path) -> None:
    met: dict[str, Line] = {}
    for line in lines:
        first = met.setdefault(line.path, line)
        for what in ("label", "split"):
            ours, before = getattr(line, what), getattr(first, what)
            if ours != before:
                ours, before = (", ".join(x) if isinstance(x, tuple) else x for x in (ours, before))
                raise ValueError(
                    f"{file}, line {line.number}: {line.path} has {what} {ours!r}, but "
                    f"{before!r} in line {first.number}"
                )


def _check_classes(classes: tuple[str, ...], file: Path) -> None:
    if len(classes) == 1:
        raise ValueError(f"{file} has one class only, {classes[0]}; a classifier needs at least two")
    if pairs := same_but_for_case(classes):
        raise ValueError(f"{file} writes a class in two ways: {some(pairs)}; write it in one")


def _folder(file: Path, root: Path | None, line: Line) -> Path:
    places = [file.parent, *([root] if root else [])]
    found = first_with(line.path, places)
    if found is None:
        where = " or ".join(str(place) for place in dict.fromkeys(places))
        raise FileNotFoundError(
            f"{file}, line {line.number}: there is no image {line.path} in {where}; "
            "paths start from the table's folder, or from the root if one is given"
        )
    return found
