"""`seg:PATH`: pictures in images/, masks of the same names in masks/, and which are for what.

    PATH/images/a.jpg   PATH/masks/a.png   PATH/train.txt, val.txt, test.txt   PATH/classes.txt

Splits are folders (images/train, masks/train, ...), or lists of names or of folders in PATH or PATH/splits,
or else made by the seed. Classes have a line each in classes.txt: NAME, or NAME RED GREEN BLUE.

Options: images=, masks=, splits= (other folders), classes= (names between commas, or another file),
ignore= (stored numbers that mean no class, between commas; usually 255), reduce_zero_label=true (0 means no
class, classes count from 1), white=class|ignore (what 255 is in black and white masks), seed=.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vitrim.data.source import Spec
from vitrim.data.split_folders import WORDS
from vitrim.dense.classes import IGNORE, ClassTable, Colour, usual_colours
from vitrim.dense.masks import Coding
from vitrim.dense.pairing import by_lists, folder, held_out, lines, listed, paired, pictures
from vitrim.dense.source import DenseData, DenseSplit, with_trainval

OPTIONS = ("images", "masks", "splits", "classes", "ignore", "reduce_zero_label", "white", "seed")


def open_folder(spec: Spec) -> DenseData:
    """A folder of one's own."""
    spec.allow(*OPTIONS)
    if not spec.rest:
        raise ValueError("seg needs a folder: seg:PATH, with images/ and masks/ in it")
    place = folder(spec.rooted(spec.rest), "seg")
    images = pictures(folder(place / spec.options.get("images", "images"), "seg"))
    masks = pictures(folder(place / spec.options.get("masks", "masks"), "seg"))
    coding = Coding.plain(
        given_classes(spec, place), ignored_numbers(spec), flag(spec, "reduce_zero_label"), white(spec)
    )
    files = split_files(spec, place)
    notes: list[str] = []
    if files:
        parts = by_lists(images, files)
    elif found := by_folders(images):
        parts = found
    else:
        seed = spec.integer("seed", spec.seed)
        spec, parts = spec.with_options(seed=seed), held_out(images, seed)
        notes.append(f"it comes without a split: 70 / 10 / 20 by seed {seed}, folders kept together")
    splits = {name: paired(part, masks, coding) for name, part in parts.items() if part}
    left = len(masks.keys() - images.keys())
    if left:
        notes.append(f"{left:,} masks have no picture and are left out")
    check_splits(splits, str(spec))
    return DenseData(str(spec), coding.table, with_trainval(splits), tuple(notes))


def given_classes(spec: Spec, place: Path) -> ClassTable:
    """The classes that the spec names, or those in classes.txt."""
    given = spec.options.get("classes", "classes.txt")
    file = place / given
    if file.is_file():
        return read_table(file)
    if "," in given:
        return ClassTable(tuple(name.strip() for name in given.split(",")))
    raise FileNotFoundError(
        f"there is no {file}: give the classes a line each in it, NAME or NAME RED GREEN BLUE, or name them "
        "with classes=ground,car,..."
    )


def read_table(file: Path) -> ClassTable:
    """A class a line, with or without a colour."""
    names: list[str] = []
    colours: list[Colour | None] = []
    for line in lines(file):
        words = line.replace("\t", " ").split(" ")
        numbers = [int(word) for word in words[-3:] if word.isdecimal() and len(word) <= 3]
        coloured = len(words) > 3 and len(numbers) == 3
        names.append(" ".join(words[:-3] if coloured else words).strip())
        colours.append((numbers[0], numbers[1], numbers[2]) if coloured else None)
    if not names:
        raise ValueError(f"{file} names no class; give each a line")
    if any(colours) and not all(colours):
        raise ValueError(f"{file} gives some classes a colour and others none; give all of them one, or none")
    own = tuple(colour for colour in colours if colour is not None)
    return ClassTable(tuple(names), own or usual_colours(len(names)))


def ignored_numbers(spec: Spec) -> tuple[int, ...]:
    text = spec.options.get("ignore", str(IGNORE))
    found = [int(word) for word in text.split(",") if word.strip().isdecimal()]
    if len(found) != len(text.split(",")):
        raise ValueError(f"seg option ignore={text} must be stored numbers between commas, such as 0,255")
    return tuple(found)


def flag(spec: Spec, name: str, usual: bool = False) -> bool:
    text = spec.options.get(name, "true" if usual else "false")
    if text not in ("true", "false"):
        raise ValueError(f"{spec.kind} option {name}={text} must be true or false")
    return text == "true"


def white(spec: Spec) -> str:
    text = spec.options.get("white", "")
    if text not in ("", "class", "ignore"):
        raise ValueError(f"seg option white={text} must be class or ignore")
    return text


def split_files(spec: Spec, place: Path) -> dict[str, Path]:
    """The lists of names, where the spec says they are or where they usually lie."""
    if "splits" in spec.options:
        there = place / spec.options["splits"]
        found = listed(folder(there, "seg option splits"))
        if not found:
            raise FileNotFoundError(f"{there} has none of train.txt, val.txt, trainval.txt and test.txt")
        return found
    return listed(place) or listed(place / "splits")


def by_folders(images: Mapping[str, Path]) -> dict[str, dict[str, Path]] | None:
    """The splits, where the folders right inside are called like splits; None where they are not."""
    found: dict[str, dict[str, Path]] = {}
    for key, path in images.items():
        split = WORDS.get(key.partition("/")[0].lower()) if "/" in key else None
        if split is None:
            return None
        found.setdefault(split, {})[key] = path
    return found


def check_splits(splits: Mapping[str, DenseSplit], spec: str) -> None:
    """Refuse data with nothing to train on and nothing to measure on."""
    if not splits:
        raise ValueError(f"{spec} has no pictures in any split")
