"""folder:PATH: images sorted into one folder per class, the layout everybody has.

Either PATH has train/ and at least one of val/ (also valid/, validation/) and test/, each with class folders,
and these splits are taken as they are; or PATH has class folders, and every class is split 70 / 10 / 20 into
train, val and test. The second kind follows `seed`, which the spec then carries: folder:PATH?seed=3.

Classes are numbered by sorted name, from train/. A class folder may hold folders of its own. Hidden files,
files that are not images and images outside any class folder are left alone.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from vitrim.data.class_names import same_but_for_case
from vitrim.data.images import EXTENSIONS, read_image
from vitrim.data.source import DataSource, Spec, Split, with_trainval
from vitrim.data.splitting import some, split_70_10_20

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
NOT_DATA = "__MACOSX"  # left behind by zip files made on a Mac

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
    layout = _split_layout(path)
    if layout is None:
        return _split_by_us(spec, path, spec.integer("seed", spec.seed))
    if spec.options:
        raise ValueError(f"{path} comes split into {', '.join(layout)}: a seed has no effect, leave it out")
    return _split_by_user(spec, layout)


def _split_by_us(spec: Spec, path: Path, seed: int) -> DataSource:
    found = _class_folders(path)
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
    return DataSource(str(seeded), classes, with_trainval(splits), (note,))


def _split_by_user(spec: Spec, layout: Mapping[str, Path]) -> DataSource:
    found = {split: _class_folders(path) for split, path in layout.items()}
    classes = tuple(found["train"])
    for split, part in found.items():
        new = [name for name in part if name not in classes]
        if new:
            raise ValueError(f"{layout[split]} has classes that {layout['train']} has not: {some(new)}")
    splits = {split: _split(layout[split], part, classes) for split, part in found.items()}
    return DataSource(str(spec), classes, with_trainval(splits))


def _split(path: Path, part: Classes, classes: tuple[str, ...]) -> Split:
    label = {name: number for number, name in enumerate(classes)}
    pairs = [(str(path / file), label[name]) for name in sorted(part) for file in sorted(part[name])]
    return Split(read_image, [file for file, _ in pairs], [number for _, number in pairs])


def _split_layout(path: Path) -> dict[str, Path] | None:
    """The folder of each split, or None where PATH holds the classes themselves."""
    layout: dict[str, Path] = {}
    folders = _folders(path)
    for folder in folders:
        split = SPLIT_FOLDERS.get(folder.name.lower())
        if split is not None and split in layout:
            raise ValueError(f"{path} has both {layout[split].name}/ and {folder.name}/; keep one of them")
        if split is not None:
            layout[split] = folder
    if not layout or (len(layout) < len(folders) and not any(_folders(folder) for folder in layout.values())):
        return None  # "train" beside "bus" and "tram", images right inside, is a class
    if "train" not in layout:
        raise ValueError(f"{path} has {next(iter(layout.values())).name}/ but no train/ folder")
    if len(layout) == 1:
        raise ValueError(
            f"{path} has train/ but neither val/ nor test/; add one of them, "
            f"or give {layout['train']} to have it split"
        )
    return layout


def _class_folders(path: Path) -> Classes:
    """The images of each class folder; refuses folders that cannot be a data set."""
    folders = _folders(path)
    if not folders:
        images = sum(entry.suffix.lower() in EXTENSIONS for entry in path.iterdir())
        raise ValueError(
            f"{path} has no class folders"
            + (f", only images ({images})" if images else "")
            + "; put the images of each class into a folder named after the class"
        )
    _check_names([folder.name for folder in folders], path)
    found: Classes = {}
    for folder in folders:
        found[folder.name] = [file.relative_to(path).as_posix() for file in _images(folder)]
    empty = [name for name, files in found.items() if not files]
    if len(empty) == len(found):
        raise ValueError(
            f"there are no images in the class folders of {path}; "
            f"known endings are {' '.join(sorted(EXTENSIONS))}"
        )
    if empty:
        raise ValueError(f"class folders without images in {path}: {some(empty)}; fill them or remove them")
    if len(found) == 1:
        raise ValueError(f"{path} has one class only, {folders[0].name}; a classifier needs at least two")
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
            if entry.is_dir() and not _ignored(entry.name) and not _lists(entry)
        ),
        key=lambda entry: entry.name,
    )


def _images(folder: Path) -> Iterator[Path]:
    """All image files below a folder, through links, but never twice through the same folder."""
    seen: set[Path] = set()
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        real = Path(parent).resolve()
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _ignored(name))
        for name in files:
            if not _ignored(name) and Path(name).suffix.lower() in EXTENSIONS:
                yield Path(parent, name)


def _raise(error: OSError) -> None:
    raise error  # a folder that may not be read would otherwise be skipped in silence


def _ignored(name: str) -> bool:
    return name.startswith(".") or name == NOT_DATA


def _lists(folder: Path) -> bool:
    """Whether a folder holds the lists of a few-shot set, which `vitrim data --write_lists` puts there."""
    return folder.name == "annotations" and any(folder.glob("*_meta.list*"))
