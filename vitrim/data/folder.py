"""folder:PATH: images sorted into one folder per class, the layout everybody has.

Either PATH has train/ and at least one of val/ and test/ (or Training/, test_set/, seg_train/ ...: see
split_folders.py), each with class folders, and these splits are taken as they are; or PATH has class
folders, and every class is split 70 / 10 / 20 into train, val and test. The second kind follows `seed`,
which the spec then carries: folder:PATH?seed=3. val/ and test/ may lack classes, down to one.

Classes are numbered by sorted name, from train/. A class folder may hold folders of its own. Hidden files,
files that are not images and images outside any class folder are left alone.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitrim.data.class_names import same_but_for_case
from vitrim.data.finding import EXTENSIONS, is_hidden, is_picture, unread_note, walk_pictures
from vitrim.data.images import read_image
from vitrim.data.source import DataSource, Reader, Spec, Split, with_trainval
from vitrim.data.split_folders import DEEPEST, check_classes, check_layout, find_splits, innermost
from vitrim.data.splitting import some, split_70_10_20

Classes = dict[str, list[str]]  # class name -> paths relative to the folder of classes, with "/"


@dataclass(frozen=True)
class Sorted:
    """What lies in class folders: pictures, or clips, which may be folders themselves."""

    called: str
    read: Reader
    walk: Callable[[Path, Counter[str]], Iterator[Path]]
    is_one: Callable[[Path], bool]
    endings: Sequence[str]
    folders_too: bool = False


def _is_picture(path: Path) -> bool:
    return is_picture(path.name)


PICTURES = Sorted("images", read_image, walk_pictures, _is_picture, sorted(EXTENSIONS))


def open_folder(spec: Spec) -> DataSource:
    spec.allow("seed")
    if not spec.rest:
        raise ValueError("folder needs a path: write folder:PATH")
    return open_sorted(spec, spec.rooted(spec.rest), PICTURES)


def open_sorted(spec: Spec, path: Path, things: Sorted) -> DataSource:
    """Whatever things lie in class folders below a path."""
    if not path.exists():
        place = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise FileNotFoundError(f"there is no folder {path}{place}")
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is a file, not a folder; give the folder of the class folders")
    folders = {folder: _folders(folder, things) for folder in _folders(path, things)}
    layout = find_splits(path, folders)
    if layout is None:
        notes = check_classes(path, folders)
        return _split_by_us(spec, path, spec.integer("seed", spec.seed), notes, things)
    check_layout(path, layout)
    if "seed" in spec.options:
        raise ValueError(f"{path} comes split into {', '.join(layout)}: a seed has no effect, leave it out")
    alone = [folder.name for folder in folders if folder not in layout.values()]
    notes = [f"left alone, as they are no splits: {some(alone)}"] if alone else []
    inner = {split: _innermost(folder, things) for split, folder in layout.items()}
    return _split_by_user(spec, inner, notes, things)


def _innermost(folder: Path, things: Sorted) -> Path:
    for _ in range(DEEPEST):
        folder = innermost(folder, _folders(folder, things)) or folder
    return folder


def _split_by_us(spec: Spec, path: Path, seed: int, notes: Sequence[str], things: Sorted) -> DataSource:
    unread: Counter[str] = Counter()
    found = _class_folders(path, unread, things)
    small = [f"{name} ({len(files)})" for name, files in found.items() if len(files) < 3]
    if small:
        raise ValueError(
            f"splitting {path} takes at least 3 {things.called} per class, too few in: {some(small)}"
        )
    chosen: dict[str, Classes] = {"train": {}, "val": {}, "test": {}}
    for name, files in found.items():
        for split, part in split_70_10_20(files, seed).items():
            chosen[split][name] = part
    classes = tuple(found)
    splits = {split: _split(path, part, classes, things.read) for split, part in chosen.items()}
    seeded = spec.with_options(seed=seed)
    note = f"every class split 70 / 10 / 20 with seed {seed}"
    return DataSource(str(seeded), classes, with_trainval(splits), (note, *notes, *unread_note(unread)))


def _split_by_user(
    spec: Spec, layout: Mapping[str, Path], notes: Sequence[str], things: Sorted
) -> DataSource:
    unread: Counter[str] = Counter()
    fewest = {"train": 2}  # of which a test set may show a part
    found = {
        split: _class_folders(path, unread, things, fewest.get(split, 1)) for split, path in layout.items()
    }
    classes = tuple(found["train"])
    for split, part in found.items():
        new = [name for name in part if name not in classes]
        if new:
            raise ValueError(f"{layout[split]} has classes that {layout['train']} has not: {some(new)}")
    splits = {split: _split(layout[split], part, classes, things.read) for split, part in found.items()}
    return DataSource(str(spec), classes, with_trainval(splits), (*notes, *unread_note(unread)))


def _split(path: Path, part: Classes, classes: tuple[str, ...], read: Reader) -> Split:
    label = {name: number for number, name in enumerate(classes)}
    pairs = [(str(path / file), label[name]) for name in sorted(part) for file in sorted(part[name])]
    return Split(read, [file for file, _ in pairs], [number for _, number in pairs])


def _class_folders(path: Path, unread: Counter[str], things: Sorted, fewest: int = 2) -> Classes:
    """The images of each class folder; refuses folders that cannot be a data set."""
    folders, called = _folders(path, things), things.called
    if not folders:
        found_here = sum(map(things.is_one, path.iterdir()))
        raise ValueError(
            f"{path} has no class folders"
            + (f", only {called} ({found_here})" if found_here else "")
            + f"; put the {called} of each class into a folder named after the class"
        )
    _check_names([folder.name for folder in folders], path)
    found: Classes = {}
    for folder in folders:
        found[folder.name] = [file.relative_to(path).as_posix() for file in things.walk(folder, unread)]
    empty = [name for name, files in found.items() if not files]
    if len(empty) == len(found):
        raise ValueError(
            f"there are no {called} in the class folders of {path}; "
            f"known endings are {' '.join(things.endings)}"
        )
    if empty:
        raise ValueError(f"class folders without {called} in {path}: {some(empty)}; fill them or remove them")
    if len(found) < fewest:
        inside = f", or give {folders[0]} if the classes are in there" if _folders(folders[0], things) else ""
        raise ValueError(
            f"{path} has one class only, {folders[0].name}; a classifier needs at least two{inside}"
        )
    return found


def _check_names(names: list[str], path: Path) -> None:
    for name in names:
        if not name.isprintable():  # bytes that are not UTF-8, line breaks
            raise ValueError(
                f"the class folder {name!a} in {path} has a name that cannot be printed; rename it (UTF-8)"
            )
    if pairs := same_but_for_case(names):
        raise ValueError(f"{path} has a class under two names: {some(pairs)}; merge or rename the folders")


def _folders(path: Path, things: Sorted) -> list[Path]:
    return sorted(
        (
            entry
            for entry in path.iterdir()
            if entry.is_dir()
            and not is_hidden(entry.name)
            and not _lists(entry)
            and not (things.folders_too and things.is_one(entry))
        ),
        key=lambda entry: entry.name,
    )


def _lists(folder: Path) -> bool:
    """Whether a folder holds the lists of a few-shot set, which `vitrim data --write_lists` puts there."""
    return folder.name == "annotations" and any(folder.glob("*_meta.list*"))
