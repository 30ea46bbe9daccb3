"""Which folders are splits and which are classes: train/ and test/ in the spellings people use.

A split folder's name has one word of `WORDS` (Training, test_set, seg_train, valImages, train2017); what
else it has must be the same for all of them, or one of `BESIDE`. Folders that are only called like splits,
such as a class "train" beside "bus" and "tram", hold their pictures directly. What looks like splits and is
not understood is refused: splits taken for classes would be learned without a word.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vitrim.data.finding import is_picture
from vitrim.data.splitting import some

WORDS = {"train": "train", "training": "train", "trn": "train", "val": "val", "valid": "val", "dev": "val"}
WORDS |= {"validation": "val", "validate": "val", "test": "test", "testing": "test", "tst": "test"}
BESIDE = frozenset(
    (
     "set", "sets", "data", "dataset", "datasets", "image", "images", "img", "imgs", "picture",
     "pictures", "photo", "photos", "pic", "pics", "folder", "folders", "split", "splits", "sample",
     "samples", "labelled", "labeled", "jpg", "jpeg", "png", "raw", "class", "classes", "final",
    )
)  # fmt: skip
OTHERS = frozenset(  # words of splits that are not train, val or test
    (
     "fold", "folds", "split", "splits", "part", "partition", "subset", "eval", "evaluation",
     "holdout", "heldout", "trainval", "unlabeled", "unlabelled", "pred", "prediction", "query",
     "gallery", "public", "private", "extra",
    )
)  # fmt: skip
GLUED = re.compile(f"({'|'.join(sorted(WORDS, key=len, reverse=True))})({'|'.join(sorted(BESIDE))})")
DEEPEST = 3  # folders of one name in each other, seg_train/seg_train, as archives are unpacked


class Looks(NamedTuple):
    """What a name says: the split, and the words beside it that could be part of a class's name."""

    split: str
    rest: tuple[str, ...] = ()


def looks(name: str) -> Looks | None:
    """What split a folder's name speaks of; None where it speaks of none, or of several."""
    words = _words(name)
    splits = [WORDS[word] for word in words if word in WORDS]
    rest = tuple(word for word in words if word not in WORDS and word not in BESIDE and not word.isdigit())
    return Looks(splits[0], rest) if len(splits) == 1 else None


def _words(name: str) -> list[str]:
    words: list[str] = []
    for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]+", name):
        glued = GLUED.fullmatch(word.lower())
        words += glued.groups() if glued else [word.lower()]
    return words


def find_splits(path: Path, folders: Mapping[Path, Sequence[Path]]) -> dict[str, Path] | None:
    """The folder of each split, or None where PATH holds the classes themselves.

    `folders` are the folders in PATH, and the folders in each of them.
    """
    named = {folder: look for folder in folders if (look := looks(folder.name)) is not None}
    plain = {folder: look for folder, look in named.items() if folder.name.lower() in WORDS}
    if {"train"} < {look.split for look in plain.values()}:
        named = plain
    nested = any(folders[folder] for folder in named)
    if not named or (len(named) < len(folders) and not nested):
        return None  # "train" beside "bus" and "tram", images right inside, is a class
    splits = {look.split for look in named.values()}
    if "train" in splits and len(splits) > 1:
        return _one_each(path, named)
    return _one_each(path, plain) if plain else None


def _one_each(path: Path, named: Mapping[Path, Looks]) -> dict[str, Path] | None:
    rests: dict[str, set[tuple[str, ...]]] = {}
    layout: dict[str, Path] = {}
    for folder, (split, rest) in named.items():
        rests.setdefault(split, set()).add(rest)
        if split in layout and rest == looks_of(layout[split]).rest:
            raise ValueError(f"{path} has both {layout[split].name}/ and {folder.name}/; keep one of them")
        layout.setdefault(split, folder)
    if all(len(found) == 1 for found in rests.values()):
        return layout if len(set.union(*rests.values())) == 1 else None  # train_station, test_tube: classes
    if set.intersection(*rests.values()):
        raise ValueError(
            f"the folders of {path} look like several of each split "
            f"({some([folder.name for folder in named])}); "
            "make one folder for each split, with the class folders in it: train/CLASS, test/CLASS"
        )
    return None


def looks_of(folder: Path) -> Looks:
    return looks(folder.name) or Looks("")


def check_layout(path: Path, layout: Mapping[str, Path]) -> None:
    """Refuse splits of which there are not enough."""
    if "train" not in layout:
        raise ValueError(f"{path} has {next(iter(layout.values())).name}/ but no train/ folder")
    if len(layout) == 1:
        raise ValueError(
            f"{path} has {layout['train'].name}/ but neither val/ nor test/; add one of them, "
            f"or give {layout['train']} to have it split"
        )


def check_classes(path: Path, folders: Mapping[Path, Sequence[Path]]) -> list[str]:
    """Refuse class folders that look like something else; notes where that is less sure."""
    for folder, inside in folders.items():
        splits = {WORDS[name] for entry in inside if (name := entry.name.lower()) in WORDS}
        if {"train"} < splits:
            raise ValueError(
                f"{folder} has train/ and {'val' if 'val' in splits else 'test'}/ in it, the "
                "splits inside the "
                "class; turn them round: train/CLASS, test/CLASS"
            )
    named = [folder.name for folder in folders if folder.name.lower() in WORDS]
    notes = [f"folders called like splits are taken for classes: {some(named)}"] if named else []
    shared = {frozenset(entry.name for entry in inside) for inside in folders.values()}
    if len(folders) < 2 or len(shared) != 1 or len(next(iter(shared))) < 2:
        return notes
    names, inner = some([folder.name for folder in folders]), some(sorted(next(iter(shared))))
    if any(word in WORDS or word in OTHERS for folder in folders for word in _words(folder.name)):
        raise ValueError(
            f"the folders of {path} ({names}) look like splits, as each of them holds the folders "
            f"{inner}; call them "
            "train, val and test, or merge them if they are parts of one set"
        )
    return [
        *notes,
        f"each class folder holds the folders {inner}, whose images are taken together as one class",
    ]


def innermost(folder: Path, inside: Sequence[Path]) -> Path | None:
    """The only folder in a split folder, where it speaks of the same split: seg_train/seg_train."""
    if len(inside) != 1 or looks_of(inside[0]) != looks_of(folder):
        return None
    return None if any(is_picture(entry.name) for entry in folder.iterdir()) else inside[0]
