"""Which mask belongs to which picture, and which pictures belong to which split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from vitrim.data.finding import EXTENSIONS, walk_pictures
from vitrim.data.splitting import some, split_70_10_20
from vitrim.dense.masks import Coding, read_mask
from vitrim.dense.source import DenseSplit

SPLITS = ("train", "val", "trainval", "test")
MOST_LISTED = 64 * 2**20  # bytes of a list of names


def folder(path: Path, of: str) -> Path:
    """A folder that has to be there."""
    if not path.is_dir():
        raise FileNotFoundError(f"{of} needs the folder {path}, which is not there")
    return path


def pictures(inside: Path) -> dict[str, Path]:
    """The pictures below a folder, by their path in it without ending."""
    found: dict[str, Path] = {}
    for path in walk_pictures(inside):
        key = path.relative_to(inside).with_suffix("").as_posix()
        if key in found:
            raise ValueError(f"{found[key]} and {path} differ in their ending alone; keep one of them")
        found[key] = path
    if not found:
        raise FileNotFoundError(f"there are no pictures in {inside}")
    return found


def paired(images: Mapping[str, Path], masks: Mapping[str, Path], coding: Coding) -> DenseSplit:
    """Pictures and masks of the same keys; refused where one has no mask."""
    lacking = [key for key in images if key not in masks]
    if lacking:
        raise FileNotFoundError(
            f"{len(lacking):,} of {len(images):,} pictures have no mask: {some(lacking)}; a mask is a PNG of "
            "the same name"
        )
    return DenseSplit(
        list(images.values()), [masks[key] for key in images], partial(read_mask, coding=coding)
    )


def chosen(images: Mapping[str, Path], keys: Sequence[str], by: Path) -> dict[str, Path]:
    """The pictures that a list names: by path without ending, or by the folder they lie in."""
    found: dict[str, Path] = {}
    for key in keys:
        if key in images:
            found[key] = images[key]
            continue
        inside = {name: path for name, path in images.items() if name.startswith(f"{key}/")}
        if not inside:
            raise ValueError(f"{by} names {key!r}, but there is no such picture, nor a folder of pictures")
        found |= inside
    return found


def lines(file: Path) -> list[str]:
    """The lines of a text file that say something."""
    if file.stat().st_size > MOST_LISTED:
        raise ValueError(f"{file} is larger than any list of names")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no text in UTF-8") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def listed(place: Path) -> dict[str, Path]:
    """The split files of a folder: train.txt, val.txt, trainval.txt, test.txt."""
    return {name: file for name in SPLITS if (file := place / f"{name}.txt").is_file()}


def by_lists(images: Mapping[str, Path], files: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """The pictures of each split file; a picture in two of train, val and test is refused."""
    found = {name: chosen(images, list(map(_key, lines(file))), file) for name, file in files.items()}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        both = sorted(set(found.get(one, ())) & set(found.get(other, ())))
        if both:
            raise ValueError(
                f"{files[one]} and {files[other]} both name {some(both)}; a picture to measure on must not "
                "be trained on"
            )
    return found


def _key(line: str) -> str:
    """A line of a split file as a key: the first word without its ending, however it is rooted."""
    word = line.split("\t")[0].removeprefix("./").replace("\\", "/")
    path = Path(word)
    return path.with_suffix("").as_posix() if path.suffix.lower() in EXTENSIONS else word


def held_out(images: Mapping[str, Path], seed: int) -> dict[str, dict[str, Path]]:
    """Train, val and test, 70 / 10 / 20, of data without a split: whole folders where pictures lie in
    several, since the frames of one film must not be on both sides."""
    groups = sorted({key.rpartition("/")[0] for key in images})
    grouped = len(groups) >= 3
    units = groups if grouped else list(images)
    parts = split_70_10_20(units, seed)
    place = {unit: split for split, members in parts.items() for unit in members}
    found: dict[str, dict[str, Path]] = {name: {} for name in parts}
    for key, path in images.items():
        found[place[key.rpartition("/")[0] if grouped else key]][key] = path
    return found
