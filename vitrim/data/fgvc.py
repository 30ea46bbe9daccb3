"""fgvc:NAME with a root: CUB, NABirds, Oxford Flowers, Stanford Dogs and Cars, in the papers' layouts.

    <root>/<folder>/train.json  val.json  test.json   {"path of image": class id}    VPT, GPS, V-PETL
    <root>/<folder>/images.txt  image_class_labels.txt  train_test_split.txt         SSF: CUB, NABirds
    <root>/<folder>/train_list.mat  test_list.mat  Images/                           SSF: Dogs
    <root>/<folder>/train/  val/ or test/, one folder per class                      SSF: Flowers, Cars

Train on "train" and choose settings on "val", as VPT, or train on "trainval", as GPS. With the official
files of SSF's route, which hold out nothing, val=0.1 (and seed=N) holds out a share of the training images.
The JSON route also takes part=0.1, which trains on train_0.1.json. Class ids are numbered over all lists.
"""

from pathlib import Path

from vitrim.data.choices import choose
from vitrim.data.class_names import folder_names, numbered
from vitrim.data.fgvc_official import OFFICIAL, read_official
from vitrim.data.fgvc_sets import SETS, FineGrained, finished
from vitrim.data.images import read_image
from vitrim.data.lists import Rows, check_files, read_json_object
from vitrim.data.places import find_folder, first_with, needs_root, plain
from vitrim.data.source import DataSource, Spec, Split

PLACES = ("", "fgvc", "FGVC", "data")
IMAGE_FOLDERS = ("images", "", "Images", "jpg")
NAMES = {plain(name): each for each in SETS.values() for name in (each.name, *each.folders)}


def open_fgvc(spec: Spec) -> DataSource:
    if not spec.rest:
        raise ValueError(f"fgvc needs a name: write fgvc:NAME with one of {', '.join(SETS)}")
    known = choose("fine-grained data set", plain(spec.rest), NAMES)
    root = needs_root(f"fgvc:{known.name}", spec.root, known.title)
    names = (known.name, *known.folders)
    folder = find_folder(root, names, PLACES, _fits)
    if folder == root and plain(root.name) not in map(plain, names) and not _lists(root):
        folder = None  # a root with some train/ of its own
    if folder is None:
        raise FileNotFoundError(_where_it_was_looked_for(known, root))
    if not (folder / "train.json").is_file() and not _part_file(spec, folder):
        return read_official(spec, known, folder)
    if "val" in spec.options:
        raise ValueError(f"{folder} holds val.json, validation images of its own; leave val out")
    spec.allow("part")
    return _from_json(spec, known, folder)


def _lists(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("train.json", "test.json", *OFFICIAL[:-1]))


def _fits(folder: Path) -> bool:
    return _lists(folder) or (folder / OFFICIAL[-1]).is_dir()


def _where_it_was_looked_for(known: FineGrained, root: Path) -> str:
    names = " or ".join(dict.fromkeys((known.folders[0], *known.folders[1:], known.name)))
    return (
        f"no {known.title} in {root}: looked for a folder {names} there and in its fgvc/ and data/, holding "
        "train.json, val.json and test.json (VPT's splits), or the files of the original release "
        f"({', '.join(OFFICIAL)})"
    )


def _part_file(spec: Spec, folder: Path) -> Path | None:
    part = spec.options.get("part")
    if part is None:
        return None
    path = folder / f"train_{part}.json"
    if not path.is_file():
        there = sorted(file.stem.removeprefix("train_") for file in folder.glob("train_*.json"))
        offer = f"there are: {', '.join(there)}" if there else "there are none; leave part out"
        raise FileNotFoundError(f"part={part} needs {path}, which is not there; {offer}")
    return path


def _from_json(spec: Spec, known: FineGrained, folder: Path) -> DataSource:
    files = {"train": _part_file(spec, folder) or folder / "train.json"}
    files |= {split: folder / f"{split}.json" for split in ("val", "test")}
    rows = {split: read_json_object(file) for split, file in files.items() if file.is_file()}
    if not {"val", "test"} & set(rows):
        raise FileNotFoundError(f"{folder} has train.json but neither val.json nor test.json")
    number = numbered(str(row.label) for part in rows.values() for row in part)
    images = _image_folder(folder, rows["train"])
    for part in rows.values():
        check_files(images, part)
    splits = {
        split: Split(
            read_image, [str(images / row.path) for row in part], [number[str(row.label)] for row in part]
        )
        for split, part in rows.items()
    }
    every = [
        (path, label)
        for split in splits.values()
        for path, label in zip(split.names, split.labels, strict=True)
    ]
    names = folder_names([path for path, _ in every], [label for _, label in every], len(number))
    return finished(Spec("fgvc", known.name, spec.options), known, names or tuple(number), splits)


def _image_folder(folder: Path, rows: Rows) -> Path:
    candidates = [folder / name for name in IMAGE_FOLDERS]
    found = first_with(rows[0].path, candidates)
    if found is None:
        places = ", ".join(str(candidate) for candidate in dict.fromkeys(candidates))
        raise FileNotFoundError(f"{rows[0].where}: there is no {rows[0].path} in {places}")
    return found
