"""vtab:TASK with a root: the 19 tasks of VTAB-1k as image files and lists (the NOAH layout).

    <root>/vtab-1k/<task>/train800.txt  val200.txt  train800val200.txt  test.txt   lines "images/...jpg LABEL"

Used by NOAH, SSF, RepAdapter, FPET and others. SynQT's JSON lists are read as well. Protocol of the papers:
train on "trainval" and report "test"; search settings with "train" and "val".
"""

from pathlib import Path

from vitrim.data.choices import choose
from vitrim.data.images import read_image
from vitrim.data.lists import Rows, check_files, read_json_list, read_names, read_text_list
from vitrim.data.source import DataSource, Spec, Split, size_notes, with_trainval
from vitrim.data.vtab_tasks import NAMES, TASKS, Task

LISTS = {"train": "train800", "val": "val200", "trainval": "train800val200", "test": "test"}
SIZES = {"train": 800, "val": 200, "trainval": 1000}
PLACES = ("", "vtab-1k", "vtab", "vtab-1k-png")  # where below the root the task folders may be


def open_vtab(spec: Spec) -> DataSource:
    spec.allow()
    if not spec.rest:
        raise ValueError(f"vtab needs a task: write vtab:TASK with one of {', '.join(TASKS)}")
    task = choose("VTAB task", spec.rest.lower().replace("-", "_"), NAMES)
    if spec.root is None:
        raise ValueError(f"vtab:{task.name} needs a root: the folder that your copy of VTAB-1k is in")
    folder = _find(task, spec.root)
    rows = {split: _read(path) for split in LISTS if (path := _list_file(folder, split)) is not None}
    for part in rows.values():
        _check(task, folder, part)
    splits = {
        split: Split(read_image, [str(folder / row.path) for row in part], [row.label for row in part])
        for split, part in rows.items()
    }
    notes = [f"VTAB-1k task, group {task.group}"]
    published = {**SIZES, "test": task.test_images}
    notes += size_notes(splits, published, "VTAB-1k")
    classes = _classes(task, folder)
    return DataSource(f"vtab:{task.name}", classes, with_trainval(splits), tuple(notes), published)


def _find(task: Task, root: Path) -> Path:
    """The task's folder: below the root, in a usual place under one of its names, or the root itself."""
    if not root.is_dir():
        raise FileNotFoundError(f"the root {root} is not a folder; give the one your copy of VTAB-1k is in")
    names = (task.name, *task.aliases)
    folders = [root / place / name for place in PLACES for name in names]
    if root.name in names:
        folders.append(root)
    for folder in folders:
        if any(_list_file(folder, split) for split in LISTS):
            return folder
    without_lists = [folder for folder in folders if folder.is_dir()]
    if without_lists:
        raise FileNotFoundError(
            f"{without_lists[0]} has none of the lists train800.txt, val200.txt, train800val200.txt, "
            "test.txt, whose lines are like images/train800/000000.jpg 3"
        )
    raise FileNotFoundError(
        f"no folder {' or '.join(names)} in {root}, {root / 'vtab-1k'} or "
        f"{root / 'vtab'}; give the root of a copy with {task.name}/train800.txt, val200.txt, "
        "train800val200.txt, test.txt and images/"
    )


def _list_file(folder: Path, split: str) -> Path | None:
    for ending in (".txt", ".json"):
        path = folder / (LISTS[split] + ending)
        if path.is_file():
            return path
    return None


def _read(path: Path) -> Rows:
    return read_json_list(path, "images") if path.suffix == ".json" else read_text_list(path)


def _check(task: Task, folder: Path, rows: Rows) -> None:
    for row in rows:
        if row.label >= task.classes:
            raise ValueError(
                f"{row.where}: label {row.label}, but {task.name} has {task.classes} classes, "
                f"0 to {task.classes - 1}"
            )
    check_files(folder, rows)


def _classes(task: Task, folder: Path) -> tuple[str, ...]:
    """Names from classes.txt (one a line, in label order) where it is there; else the numbers."""
    path = folder / "classes.txt"
    if not path.is_file():
        return tuple(str(number) for number in range(task.classes))
    return read_names(path, task.classes, task.name)
