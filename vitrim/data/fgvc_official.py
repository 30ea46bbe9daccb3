"""The fine-grained sets as their authors released them, which is what SSF reads."""

from pathlib import Path
from typing import Any

from vitrim.data.class_names import folder_names, numbered
from vitrim.data.fgvc_sets import FineGrained, finished
from vitrim.data.folder import open_folder
from vitrim.data.images import read_image
from vitrim.data.lists import Row, Rows, check_files, read_numbered
from vitrim.data.places import first_with
from vitrim.data.source import DataSource, Spec, Split
from vitrim.data.splitting import hold_out

OFFICIAL = ("images.txt", "train_list.mat", "lists/train_list.mat", "train")  # the last is a folder


def read_official(spec: Spec, known: FineGrained, folder: Path) -> DataSource:
    """Training and test images by whichever of the official lists is there."""
    spec.allow("val", "seed")
    asked = Spec("fgvc", known.name, spec.options, seed=spec.seed)
    if (folder / "images.txt").is_file():
        rows, notes = _text_files(folder), ("official train and test lists",)
    elif lists := first_with("train_list.mat", [folder, folder / "lists"]):
        rows, notes = _mat_files(lists, folder), ("official train and test lists",)
    else:
        return _image_folders(asked, known, folder)
    number = numbered(str(row.label) for part in rows.values() for row in part)
    splits = {}
    for split, part in rows.items():
        labels = [number[str(row.label)] for row in part]
        splits[split] = Split(read_image, [str(folder / row.path) for row in part], labels)
    names = _names(folder, number) or folder_names(
        [row.path for part in rows.values() for row in part],
        [label for split in splits.values() for label in split.labels],
        len(number),
    )
    held = hold_out(asked, splits, [row.path for row in rows["train"]])
    seeded = asked.with_options(seed=asked.integer("seed", spec.seed)) if "val" in asked.options else asked
    return finished(seeded, known, names or tuple(number), held, notes)


def _names(folder: Path, number: dict[str, int]) -> tuple[str, ...] | None:
    """Names from the release's classes.txt, lines "id name", where it has all of them."""
    if not (folder / "classes.txt").is_file():
        return None
    found = read_numbered(folder / "classes.txt")
    names = tuple(found.get(mark, "") for mark in number)
    return names if all(names) and len(set(names)) == len(names) else None


def _text_files(folder: Path) -> dict[str, Rows]:
    """CUB and NABirds: three files that share the id of an image."""
    tables = {}
    for name in ("images", "image_class_labels", "train_test_split"):
        file = folder / f"{name}.txt"
        if not file.is_file():
            raise FileNotFoundError(
                f"{folder} has images.txt but no {name}.txt; both come with the original archive"
            )
        tables[name] = read_numbered(file)
    rows: dict[str, Rows] = {"train": [], "test": []}
    for number, (key, path) in enumerate(tables["images"].items(), start=1):
        label, training = (tables[name].get(key) for name in ("image_class_labels", "train_test_split"))
        if label is None or training not in ("0", "1") or not label.isdigit():
            raise ValueError(
                f"{folder}: image {key} of images.txt has class {label!r} in image_class_labels.txt and "
                f"{training!r} in train_test_split.txt; a whole number and 0 or 1 are needed"
            )
        where = folder / "images.txt"
        rows["train" if training == "1" else "test"].append(Row(f"images/{path}", int(label), where, number))
    return _checked(rows, folder)


def _mat_files(lists: Path, folder: Path) -> dict[str, Rows]:
    """Stanford Dogs: MATLAB files with the paths and the labels, from 1."""
    from scipy.io import loadmat  # comes with scikit-learn

    rows: dict[str, Rows] = {}
    for split in ("train", "test"):
        path = lists / f"{split}_list.mat"
        try:
            found: dict[str, Any] = loadmat(str(path), squeeze_me=True)
            files, labels = found["file_list"].ravel().tolist(), found["labels"].ravel().tolist()
        except FileNotFoundError:
            raise FileNotFoundError(f"{lists} has no {split}_list.mat; it comes with the archive") from None
        except Exception as error:  # scipy raises a dozen kinds for a file that is not MATLAB's
            raise ValueError(
                f"{path} is not a MATLAB file with file_list and labels ({type(error).__name__}: {error})"
            ) from error
        pairs = zip(files, labels, strict=True)
        rows[split] = [
            Row(f"Images/{file}", int(label), path, number, "entry")
            for number, (file, label) in enumerate(pairs, start=1)
        ]
    return _checked(rows, folder)


def _checked(rows: dict[str, Rows], folder: Path) -> dict[str, Rows]:
    for split, part in rows.items():
        if not part:
            raise ValueError(f"the lists of {folder} name no {split} images")
        check_files(folder, part)
    return rows


def _image_folders(spec: Spec, known: FineGrained, folder: Path) -> DataSource:
    opened = open_folder(Spec("folder", str(folder)))
    splits = {name: opened.splits[name] for name in ("train", "val", "test") if name in opened.splits}
    notes: tuple[str, ...] = ()
    if "test" not in splits:  # SSF evaluates on the folder called val, which is the official test set
        splits["test"] = splits.pop("val")
        notes = ("the folder val/ is taken for the test images, as SSF does",)
    return finished(spec, known, opened.classes, hold_out(spec, splits), notes)
