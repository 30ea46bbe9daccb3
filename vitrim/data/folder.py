"""folder:PATH: images sorted into one folder per class, the layout everybody has.

Either PATH has train/ and at least one of val/ and test/ (or Training/, test_set/, seg_train/ ...: see
split_folders.py), each with class folders, and these splits are taken as they are; or PATH has class
folders, and every class is split 70 / 10 / 20 into train, val and test. The second kind follows `seed`,
which the spec then carries: folder:PATH?seed=3. val/ and test/ may lack classes, down to one.

Classes are numbered by sorted name, from train/. A class folder may hold folders of its own. Hidden files,
files that are not images and images outside any class folder are left alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vitrim.data.class_names import same_but_for_case
from vitrim.data.finding import EXTENSIONS, is_hidden, is_picture, unread_note, walk_pictures
from vitrim.data.images import read_image
from vitrim.data.source import DataSource, Spec, Split, with_trainval
from vitrim.data.split_folders import DEEPEST, check_classes, check_layout, find_splits, innermost
from vitrim.data.splitting import some, split_70_10_20

Classes = dict[str, list[str]]  # class name -> paths relative to the folder of classes, with "/"


def open_folder(spec: Spec) -> DataSource:
    spec.allow("seed")
    if not spec.rest:
        raise ValueError("folder needs a path: write folder:PATH")
    path = Path(spec.rest).expanduser()
    path = path if spec.root is None else spec.root / path
    if not path.exists():
        place = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise FileNotFoundError(f"there is no folder {path}{place}")
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is a file, not a folder; give the folder of the class folders")
    folders = {folder: _folders(folder) for folder in _folders(path)}
    layout = find_splits(path, folders)
    if layout is None:
        notes = check_classes(path, folders)
        return _split_by_us(spec, path, spec.integer("seed", spec.seed), notes)
    check_layout(path, layout)
    if spec.options:
        raise ValueError(f"{path} comes split into {', '.join(layout)}: a seed has no effect, leave it out")
    alone = [folder.name for folder in folders if folder not in layout.values()]
    notes = [f"left alone, as they are no splits: {some(alone)}"] if alone else []
    return _split_by_user(spec, {split: _innermost(folder) for split, folder in layout.items()}, notes)


def _innermost(folder: Path) -> Path:
    for _ in range(DEEPEST):
        folder = innermost(folder, _folders(folder)) or folder
    return folder


def _split_by_us(spec: Spec, path: Path, seed: int, notes: Sequence[str]) -> DataSource:
    unread: Counter[str] = Counter()
    found = _class_folders(path, unread)
    small = [f"{name} ({len(files)})" for name, files in found.items() if len(files) < 3]
    if small:
        raise ValueError(f"splitting {path} takes at least 3 images per class, too few in: {some(small)}")
    chosen: dict[str, Classes] = {"train": {}, "val": {}, "test": {}}
    for name, files in found.items():
        for split, part in split_70_10_20(files, seed).items():
            chosen[split][name] = part
    classes = tuple(found)
    splits = {split: _split(path, part, classes) for split, part in chosen.items()}
    seeded = Spec(spec.kind, spec.rest, {"seed": str(seed)})
    note = f"every class split 70 / 10 / 20 with seed {seed}"
    return DataSource(str(seeded), classes, with_trainval(splits), (note, *notes, *unread_note(unread)))


def _split_by_user(spec: Spec, layout: Mapping[str, Path], notes: Sequence[str]) -> DataSource:
    unread: Counter[str] = Counter()
    fewest = {"train": 2}  # of which a test set may show a part
    found = {split: _class_folders(path, unread, fewest.get(split, 1)) for split, path in layout.items()}
    classes = tuple(found["train"])
    for split, part in found.items():
        new = [name for name in part if name not in classes]
        if new:
            raise ValueError(f"{layout[split]} has classes that {layout['train']} has not: {some(new)}")
    splits = {split: _split(layout[split], part, classes) for split, part in found.items()}
    return DataSource(str(spec), classes, with_trainval(splits), (*notes, *unread_note(unread)))


def _split(path: Path, part: Classes, classes: tuple[str, ...]) -> Split:
    label = {name: number for number, name in enumerate(classes)}
    pairs = [(str(path / file), label[name]) for name in sorted(part) for file in sorted(part[name])]
    return Split(read_image, [file for file, _ in pairs], [number for _, number in pairs])


def _class_folders(path: Path, unread: Counter[str], fewest: int = 2) -> Classes:
    """The images of each class folder; refuses folders that cannot be a data set."""
    folders = _folders(path)
    if not folders:
        images = sum(is_picture(entry.name) for entry in path.iterdir())
        raise ValueError(
            f"{path} has no class folders"
            + (f", only images ({images})" if images else "")
            + "; put the images of each class into a folder named after the class"
        )
    _check_names([folder.name for folder in folders], path)
    found: Classes = {}
    for folder in folders:
        found[folder.name] = [file.relative_to(path).as_posix() for file in walk_pictures(folder, unread)]
    empty = [name for name, files in found.items() if not files]
    if len(empty) == len(found):
        raise ValueError(
            f"there are no images in the class folders of {path}; "
            f"known endings are {' '.join(sorted(EXTENSIONS))}"
        )
    if empty:
        raise ValueError(f"class folders without images in {path}: {some(empty)}; fill them or remove them")
    if len(found) < fewest:
        inside = f", or give {folders[0]} if the classes are in there" if _folders(folders[0]) else ""
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


def _folders(path: Path) -> list[Path]:
    return sorted(
        (
            entry
            for entry in path.iterdir()
            if entry.is_dir() and not is_hidden(entry.name) and not _lists(entry)
        ),
        key=lambda entry: entry.name,
    )


def _lists(folder: Path) -> bool:
    """Whether a folder holds the lists of a few-shot set, which `vitrim data --write_lists` puts there."""
    return folder.name == "annotations" and any(folder.glob("*_meta.list*"))
