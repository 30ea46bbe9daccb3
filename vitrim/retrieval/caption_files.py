"""Files of pictures with captions as people own them: BLIP's lists, Karpathy's and COCO's JSON, tables,
Flickr30K's token file. Every entry becomes a path, a caption and, where the file says it, a split.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrim.data.csv_file import SPLITS, USUAL
from vitrim.data.lists import read_text
from vitrim.reading import loose_json, short

CAPTION = ("caption", "sentence", "text", "comment", "raw")
MORE_SPLITS = SPLITS | {"restval": "train"}
TAKEN = (
    "BLIP's list, Karpathy's or COCO's JSON, a table with columns image and caption, or Flickr30K's .token"
)


@dataclass(frozen=True)
class Entry:
    """One caption of one picture; `split` is empty where the file does not say one."""

    image: str
    caption: str
    split: str
    where: str


def read_entries(file: Path) -> list[Entry]:
    """All captions of a file, in its order."""
    if not file.is_file():
        what = "is a folder, not a file" if file.is_dir() else "is not there"
        raise FileNotFoundError(f"{file} {what}; give a file of captions: {TAKEN}")
    readers = {".json": _json, ".csv": _table, ".txt": _table, ".tsv": _table, ".token": _tokens}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise ValueError(f"{file} is no kind of caption file that is known; it takes {TAKEN}")
    found = list(reader(file))
    if not found:
        raise ValueError(f"{file} lists no captions")
    return found


def _entry(image: Any, caption: Any, split: Any, where: str) -> Entry:
    for name, value in (("image", image), ("caption", caption)):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{where}: its {name} is {short(value)}, not words")
    if split in ("", None):
        return Entry(image.strip(), caption.strip(), "", where)
    known = MORE_SPLITS.get(str(split).strip().lower())
    if known is None:
        raise ValueError(f"{where}: the split {short(split)} is none of {', '.join(MORE_SPLITS)}")
    return Entry(image.strip(), caption.strip(), known, where)


def _json(file: Path) -> Iterator[Entry]:
    stored = loose_json(read_text(file), str(file))
    if isinstance(stored, list):
        yield from _blip(stored, file)
    elif isinstance(stored, dict) and isinstance(stored.get("annotations"), list):
        yield from _coco(stored, file)
    elif isinstance(stored, dict) and isinstance(stored.get("images"), list):
        yield from _karpathy(stored["images"], file)
    else:
        raise ValueError(f"{file} holds {short(stored)}, none of the known layouts: {TAKEN}")


def _blip(entries: list[Any], file: Path) -> Iterator[Entry]:
    """[{"image": path, "caption": text or several, "split"?: name}, ...]"""
    for number, entry in enumerate(entries, start=1):
        where = f"{file}, entry {number}"
        values = _object(entry, where)
        captions = values.get("caption")
        for caption in captions if isinstance(captions, list) else [captions]:
            yield _entry(values.get("image"), caption, values.get("split"), where)


def _karpathy(images: list[Any], file: Path) -> Iterator[Entry]:
    """{"images": [{"filename", "filepath"?, "split"?, "sentences": [{"raw"}]}]}"""
    for number, image in enumerate(images, start=1):
        where = f"{file}, image {number}"
        values = _object(image, where)
        name, folder = values.get("filename"), values.get("filepath", "")
        path = f"{folder}/{name}" if isinstance(name, str) and isinstance(folder, str) and folder else name
        sentences = values.get("sentences")
        if not isinstance(sentences, list):
            raise ValueError(f"{where}: its sentences are {short(sentences)}, not a list")
        for sentence in sentences:
            yield _entry(path, _object(sentence, where).get("raw"), values.get("split"), where)


def _coco(stored: dict[str, Any], file: Path) -> Iterator[Entry]:
    """{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}"""
    images = stored.get("images")
    if not isinstance(images, list):
        raise ValueError(f"{file} has annotations but its images are {short(images)}, not a list")
    names = {}
    for number, image in enumerate(images, start=1):
        values = _object(image, f"{file}, image {number}")
        names[str(values.get("id"))] = values.get("file_name")
    for number, annotation in enumerate(stored["annotations"], start=1):
        where = f"{file}, annotation {number}"
        values = _object(annotation, where)
        owner = str(values.get("image_id"))
        if owner not in names:
            raise ValueError(f"{where}: there is no image with the id {short(values.get('image_id'))}")
        yield _entry(names[owner], values.get("caption"), None, where)


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {short(value)}, not an object")
    return value


def _table(file: Path) -> Iterator[Entry]:
    """A first line with the columns' names; commas, semicolons, tabs or bars between them."""
    text = read_text(file)
    first = text.split("\n", 1)[0]
    separator = max("|\t;,", key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        image = _column(file, header, "image", (*USUAL["path"], "image_name"))
        caption = _column(file, header, "caption", CAPTION)
        split = next((header.index(name) for name in USUAL["split"] if name in header), None)
        for row in rows:
            if not row:
                continue
            where = f"{file}, line {rows.line_num}"
            if len(row) < len(header):
                raise ValueError(f"{where}: {len(row)} fields where the first line has {len(header)}")
            yield _entry(row[image], row[caption], None if split is None else row[split], where)
    except csv.Error as error:
        raise ValueError(f"{file}, line {rows.line_num}: not a table ({error})") from None


def _column(file: Path, header: list[str], what: str, names: tuple[str, ...]) -> int:
    found = next((header.index(name) for name in names if name in header), None)
    if found is None:
        shown = ", ".join(header)[:80]
        raise ValueError(f"{file} has the columns {shown}, none for the {what}; call one {names[0]}")
    return found


def _tokens(file: Path) -> Iterator[Entry]:
    """Flickr30K's results.token: picture.jpg#0, a tab, the caption."""
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        name, tab, caption = line.partition("\t")
        if not tab:
            raise ValueError(f"{file}, line {number}: there is no tab between picture and caption")
        yield _entry(name.rpartition("#")[0] or name, caption, None, f"{file}, line {number}")
