"""fewshot:NAME?shots=4&seed=1: few images per class to train on, by lists (NOAH, RepAdapter) or drawn by us.

    <root>/<name>/annotations/train_meta.list.num_shot_4.seed_1  val_meta.list  test_meta.list   ("path 3")

NAME is fgvc-aircraft, food101, oxford-flowers102, oxford-pets, standford-cars or imagenet under any of its
names, or the path of any folder with such lists (they may lie beside annotations/ too). Images are found in
images/, images/train/, images/test/, train/, val/ or beside the lists. fewshot:folder:PATH, or fewshot:PATH
of a folder without lists, draws the images itself: `shots` per class by `seed` from the train split of
folder:PATH, whose val and test move with neither, so that all results are measured on the same images.
"""

import re
from dataclasses import replace
from pathlib import Path

from vitrim.data.choices import choose
from vitrim.data.class_names import folder_names
from vitrim.data.fewshot_sets import SETS, FewShot, all_names
from vitrim.data.folder import open_folder
from vitrim.data.images import read_image
from vitrim.data.lists import Rows, check_files, read_names, read_text_list
from vitrim.data.places import find_folder, first_with, needs_root, plain
from vitrim.data.sampling import few_shots
from vitrim.data.source import DataSource, Spec, Split, size_notes

PLACES = ("", "few-shot", "few_shot", "fewshot", "data/few-shot", "data/few_shot")
IMAGE_FOLDERS = ("images", "", "images/train", "images/test", "train", "val", "test")
FOLDER = "folder:"  # before a path: draw from its class folders, even where it has lists too
NAMES = {plain(name): each for each in SETS.values() for name in all_names(each)}
LIST = re.compile(r"train_meta\.list\.num_shot_(\d+)\.seed_(\d+)")


def open_fewshot(spec: Spec) -> DataSource:
    spec.allow("shots", "seed")
    if not spec.rest:
        raise ValueError(f"fewshot needs a name or a folder: fewshot:NAME?shots=4 with {', '.join(SETS)}")
    if spec.rest.startswith(FOLDER):
        return _drawn(replace(spec, rest=spec.rest.removeprefix(FOLDER)))
    known = NAMES.get(plain(spec.rest))
    path = spec.rooted(spec.rest)
    if known is None and not path.is_dir():
        if {"/", "\\"} & set(spec.rest) or spec.rest.startswith("~"):
            raise FileNotFoundError(f"there is no folder {path}")
        choose("few-shot data set", plain(spec.rest), {plain(name): each for name, each in SETS.items()})
    if known is None and not _lists(path):
        return _drawn(spec)
    return _from_lists(spec, known, path if known is None else _find(known, spec))


def _find(known: FewShot, spec: Spec) -> Path:
    root = needs_root(f"fewshot:{known.name}", spec.root, known.title)
    folder = find_folder(root, all_names(known), PLACES, lambda path: bool(_lists(path)))
    if folder is None:
        raise FileNotFoundError(
            f"no {known.title} lists in {root}: looked for a folder {' or '.join(all_names(known))} "
            "there and in its few-shot/, few_shot/ and data/few-shot/, holding (annotations/)"
            "train_meta.list.num_shot_4.seed_1, val_meta.list and test_meta.list"
        )
    return folder


def _from_lists(spec: Spec, known: FewShot | None, folder: Path) -> DataSource:
    shots, seed, train = _chosen_list(spec, folder)
    rows = {"train": read_text_list(train)}
    for split in ("val", "test"):
        if (file := train.parent / f"{split}_meta.list").is_file():
            rows[split] = read_text_list(file)
    if "test" not in rows and "val" in rows:
        rows["test"] = rows.pop("val")  # ImageNet: the papers report on the validation images
    if "test" not in rows:
        raise FileNotFoundError(f"{train.parent} has neither test_meta.list nor val_meta.list")
    count = known.classes if known else 1 + max(row.label for part in rows.values() for row in part)
    splits = {split: _split(folder, part, count) for split, part in rows.items()}
    notes = [f"{shots} images per class by list, seed {seed}"]
    published: dict[str, int] = {}
    if known is not None:
        doubled = (
            2 if known.name == "oxford-pets" and shots == 1 else 1
        )  # as released: every line is there twice
        published = {"train": shots * known.classes * doubled, "val": known.val, "test": known.test}
        notes += size_notes(splits, published, known.title)
    twice = len(rows["train"]) - len({row.path for row in rows["train"]})
    if twice:
        notes.append(f"{twice} lines of the training list repeat an image, and are used as they are")
    classes = _classes(train.parent, folder, rows, count)
    name = known.name if known else spec.rest
    opened = Spec("fewshot", name, {"shots": str(shots), "seed": str(seed)})
    return DataSource(str(opened), classes, splits, tuple(notes), published)


def _chosen_list(spec: Spec, folder: Path) -> tuple[int, int, Path]:
    there = _lists(folder)
    offer = "shots " + ", ".join(str(shots) for shots in sorted({shots for shots, _ in there}))
    offer += " and seeds " + ", ".join(str(seed) for seed in sorted({seed for _, seed in there}))
    shots, seed = shots_of(spec, f"{folder} has lists of {offer}"), spec.integer("seed", spec.seed)
    if (shots, seed) not in there:
        raise ValueError(f"{folder} has no list of {shots} shots with seed {seed}; there are {offer}")
    return shots, seed, there[shots, seed]


def shots_of(spec: Spec, offer: str) -> int:
    if "shots" not in spec.options:
        raise ValueError(f"fewshot needs the images per class: {spec.kind}:{spec.rest}?shots=4; {offer}")
    shots = spec.integer("shots", 0)
    if shots < 1:
        raise ValueError(f"fewshot option shots={shots} must be at least 1")
    return shots


def _lists(folder: Path) -> dict[tuple[int, int], Path]:
    """The training lists of a folder, by shots and seed."""
    found: dict[tuple[int, int], Path] = {}
    for place in (folder, folder / "annotations"):
        for path in sorted(place.glob("train_meta.list.num_shot_*.seed_*")):
            if match := LIST.fullmatch(path.name):
                found[int(match[1]), int(match[2])] = path
    return found


def _split(folder: Path, rows: Rows, count: int) -> Split:
    for row in rows:
        if row.label >= count:
            raise ValueError(
                f"{row.where}: label {row.label}, but there are {count} classes, 0 to {count - 1}"
            )
    candidates = [folder / name for name in IMAGE_FOLDERS]
    images = first_with(rows[0].path, candidates)
    if images is None:
        places = ", ".join(str(candidate) for candidate in candidates)
        raise FileNotFoundError(f"{rows[0].where}: there is no {rows[0].path} in {places}")
    check_files(images, rows)
    return Split(read_image, [str(images / row.path) for row in rows], [row.label for row in rows])


def _classes(lists: Path, folder: Path, rows: dict[str, Rows], count: int) -> tuple[str, ...]:
    """Names from classes.txt, or of the folders where each class has one; else the numbers."""
    for place in (lists, folder):
        if (place / "classes.txt").is_file():
            return read_names(place / "classes.txt", count)
    for parts in (rows.values(), [rows["train"]]):  # ImageNet's validation images lie in one folder
        every = [row for part in parts for row in part]
        if names := folder_names([row.path for row in every], [row.label for row in every], count):
            return names
    return tuple(str(number) for number in range(count))


def _drawn(spec: Spec) -> DataSource:
    shots, seed = shots_of(spec, "with a seed, if it shall not be 0"), spec.integer("seed", spec.seed)
    whole = open_folder(Spec("folder", spec.rest, root=spec.root))
    drawn = few_shots(whole, shots, seed)
    opened = Spec("fewshot", FOLDER + spec.rest, {"shots": str(shots), "seed": str(seed)})
    return DataSource(str(opened), drawn.classes, drawn.splits, drawn.notes)
