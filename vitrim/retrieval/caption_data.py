"""`retrieval:FILE?val=FILE&test=FILE`: pictures with captions, split.

Splits are what the file says (a column or key `split`; Karpathy's restval trains), or files of their own:
those named, or beside a file of BLIP's naming its brothers (flickr30k_train.json, flickr30k_val.json,
flickr30k_test.json). Otherwise all captions of a picture go to one split, 70 / 10 / 20 of the pictures by
`seed`. Pictures are looked for below the root, beside the file, and in the usual folders of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vitrim.data.lists import Row, check_files
from vitrim.data.source import Spec
from vitrim.data.spec import parse_spec
from vitrim.data.splitting import split_70_10_20
from vitrim.retrieval.asked import KIND, is_caption_spec
from vitrim.retrieval.caption_files import Entry, read_entries
from vitrim.retrieval.captions import normalised

FOLDERS = (
    ".", "images", "Images", "flickr30k-images", "flickr30k_images", "flickr30k-images/flickr30k-images",
    "train2014", "val2014", "train2017", "val2017", "coco",
)  # fmt: skip
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Captioned:
    """One split.

    Attributes:
        images: paths of the pictures.
        captions: all captions, as they were written.
        owners: of every caption, the number of its picture.
    """

    images: tuple[str, ...]
    captions: tuple[str, ...]
    owners: tuple[int, ...]


@dataclass(frozen=True)
class CaptionSource:
    """Opened captions; `spec` opens the same splits again."""

    spec: str
    splits: Mapping[str, Captioned]
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> Captioned:
        if name not in self.splits:
            raise ValueError(f"{self.spec} has no {name!r} split; it has: {', '.join(self.splits)}")
        return self.splits[name]


def open_captions(text: str, root: str | Path | None = None, seed: int = 0) -> CaptionSource:
    """Open `retrieval:FILE`; every picture listed is there, or it is refused."""
    if not is_caption_spec(text):
        raise ValueError(f"pictures with captions are given as {KIND}:FILE, got {text!r}")
    spec = parse_spec(text)
    spec.allow("val", "test", "seed")
    if not spec.rest:
        raise ValueError(f"{KIND} needs a file of captions: write {KIND}:FILE")
    place = None if root is None else Path(root).expanduser()
    files = _files(spec, place)
    entries = {part: read_entries(file) for part, file in files.items()}
    notes: tuple[str, ...] = ()
    if len(entries) == 1:
        whole = entries["train"]
        said = {entry.split for entry in whole}
        if said == {""}:
            seed = spec.integer("seed", seed)
            spec = spec.with_options(seed=seed)
            entries, notes = _by_picture(whole, seed), (f"pictures split 70 / 10 / 20 with seed {seed}",)
        else:
            entries = _as_said(whole, files["train"])
    _check_apart(entries)
    splits = {
        part: _gathered(found, files.get(part, files["train"]), place) for part, found in entries.items()
    }
    return CaptionSource(str(spec), splits, notes)


def _files(spec: Spec, root: Path | None) -> dict[str, Path]:
    first = _found(spec.rest, root)
    found = {"train": first}
    for part in ("val", "test"):
        brother = first.with_name(re.sub(r"train(?=[^/]*$)", part, first.name))
        if part in spec.options:
            found[part] = _found(spec.options[part], root)
        elif "train" in first.name and brother != first and brother.is_file():
            found[part] = brother
    if len(found) > 1 and "seed" in spec.options:
        raise ValueError(f"{spec} comes split: a seed has no effect, leave it out")
    return found


def _found(name: str, root: Path | None) -> Path:
    path = Path(name).expanduser()
    return path if root is None or path.is_file() else root / path


def _by_picture(entries: list[Entry], seed: int) -> dict[str, list[Entry]]:
    parts = split_70_10_20(list(dict.fromkeys(entry.image for entry in entries)), seed)
    part_of = {image: part for part, images in parts.items() for image in images}
    return {part: [entry for entry in entries if part_of[entry.image] == part] for part in PARTS}


def _as_said(entries: list[Entry], file: Path) -> dict[str, list[Entry]]:
    silent = next((entry for entry in entries if not entry.split), None)
    if silent is not None:
        raise ValueError(f"{silent.where} says no split, but others of {file} do; give every entry one")
    found = {part: [entry for entry in entries if entry.split == part] for part in PARTS}
    kept = {part: group for part, group in found.items() if group}
    if "train" not in kept or len(kept) < 2:
        raise ValueError(
            f"{file} has the splits {', '.join(kept)} only; it takes train, and val or test beside it"
        )
    return kept


def _check_apart(entries: Mapping[str, Iterable[Entry]]) -> None:
    met: dict[str, str] = {}
    for part, group in entries.items():
        for entry in group:
            if met.setdefault(entry.image, part) != part:
                raise ValueError(
                    f"{entry.where}: the picture {entry.image!r} is in {part} and in {met[entry.image]}; "
                    "keep all captions of a picture in one split"
                )


def _gathered(entries: list[Entry], file: Path, root: Path | None) -> Captioned:
    number = {image: n for n, image in enumerate(dict.fromkeys(entry.image for entry in entries))}
    for entry in entries:
        if not normalised(entry.caption):
            raise ValueError(
                f"{entry.where}: nothing is left of the caption {entry.caption!r} without its marks"
            )
    folder = _folder(entries[0], file, root)
    check_files(
        folder, [Row(entry.image, 0, Path(entry.where), n, "caption") for n, entry in enumerate(entries, 1)]
    )
    return Captioned(
        tuple(str(folder / image) for image in number),
        tuple(entry.caption for entry in entries),
        tuple(number[entry.image] for entry in entries),
    )


def _folder(first: Entry, file: Path, root: Path | None) -> Path:
    """Where the pictures lie, by where the first one does."""
    bases = [file.parent] if root is None else [root, file.parent]
    tried = [base / folder for base in bases for folder in FOLDERS]
    for folder in tried:
        if (folder / first.image).is_file():
            return folder
    raise FileNotFoundError(
        f"{first.where}: there is no picture {first.image} in {bases[0]} or its usual folders; give the "
        "folder of the pictures as root"
    )
