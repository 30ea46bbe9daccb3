"""Tiny archives in the layouts people have on disk. The red of every picture is 40 times its true class, so a
test can tell whether a reader pairs pictures and labels rightly.
"""

import csv
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy
from PIL import Image
from scipy.io import savemat

STEP = 40


def picture(path: Path, truth: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (STEP * truth, 90, 90)).save(path, **JPEG if path.suffix == ".jpg" else {})
    return path


JPEG = {"quality": 100, "subsampling": 0}


def truth_of(image: Image.Image) -> int:
    return round(image.getpixel((4, 4))[0] / STEP)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def noah(folder: Path, ending: str = "jpg", own_trainval: bool = True) -> None:
    """VTAB-1k: 4 train, 2 val, 4 test images of classes 0 and 1."""
    lists: dict[str, list[str]] = {}
    for split, count in (("train800", 4), ("val200", 2), ("train800val200", 6), ("test", 4)):
        if split == "train800val200" and not own_trainval:
            lists[split] = lists["train800"] + lists["val200"]
            continue
        lists[split] = [f"images/{split}/{index:06}.{ending} {index % 2}" for index in range(count)]
        for line in lists[split]:
            picture(folder / line.split()[0], int(line.split()[1]))
    for split, lines in lists.items():
        write(folder / f"{split}.txt", "\n".join(lines) + "\n")


def synqt(folder: Path) -> None:
    for split, count in (("train800val200", 6), ("test", 4)):
        entries = [{f"{split}_{index}.png": index % 2} for index in range(count)]
        for index in range(count):
            picture(folder / "images" / f"{split}_{index}.png", index % 2)
        write(folder / f"{split}.json", json.dumps(entries))


def vpt(folder: Path, images: str, names: Sequence[str], ids: Sequence[int]) -> None:
    """VPT's JSON splits: per class 2 train, 1 val, 1 test; the last class has no val image."""
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        found = {}
        for truth, (name, number) in enumerate(zip(names, ids, strict=True)):
            for index in range(0 if split == "val" and truth == len(names) - 1 else count):
                path = name.format(f"{split}{index}")
                picture(folder / images / path, truth)
                found[path] = number
        write(folder / f"{split}.json", json.dumps(found))


def official_lists(folder: Path, names: Sequence[str], ids: Sequence[int]) -> None:
    """CUB and NABirds as released: per class 3 train, 1 test."""
    lines: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    for truth, (name, number) in enumerate(zip(names, ids, strict=True)):
        for index in range(4):
            key = f"{truth}-{index}"
            picture(folder / "images" / name / f"{index}.jpg", truth)
            lines["images"].append(f"{key} {name}/{index}.jpg")
            lines["image_class_labels"].append(f"{key} {number}")
            lines["train_test_split"].append(f"{key} {int(index < 3)}")
    lines["classes"] = [f"{number} the {name}" for name, number in zip(names, ids, strict=True)]
    for name, text in lines.items():
        write(folder / f"{name}.txt", "\n".join(text) + "\n")


def dogs(folder: Path, names: Sequence[str]) -> None:
    for split, indices in (("train", (0, 1)), ("test", (2,))):
        files = [f"{name}/{index}.jpg" for name in names for index in indices]
        labels = [[truth + 1] for truth, _ in enumerate(names) for _ in indices]
        for file, label in zip(files, labels, strict=True):
            picture(folder / "Images" / file, label[0] - 1)
        cells = numpy.empty((len(files), 1), object)
        cells[:, 0] = files
        savemat(folder / f"{split}_list.mat", {"file_list": cells, "labels": numpy.array(labels)})


def class_folders(folder: Path, splits: Mapping[str, int], names: Sequence[str]) -> None:
    for split, count in splits.items():
        for truth, name in enumerate(names):
            for index in range(count):
                picture(folder / split / name / f"{index}.jpg", truth)


def few_shot(lists: Path, images: Path, paths: Mapping[str, str], shots: int = 2, repeat: int = 1) -> None:
    """NOAH's lists of two classes; `paths` is the path of an image in each list, {} its number."""
    names = {"train": f"train_meta.list.num_shot_{shots}.seed_1", "val": "val_meta.list"}
    names["test"] = "test_meta.list"
    for split, path in paths.items():
        lines = []
        for index in range(2 * shots if split == "train" else 4):
            name = path.format(index=index, truth=index % 2)
            picture(images / name, index % 2)
            lines += [f"{name} {index % 2}"] * (repeat if split == "train" else 1)
        write(lists / names[split], "\n".join(lines) + "\n")


def table(file: Path, rows: Sequence[tuple[str, ...]], separator: str, truths: Sequence[int]) -> None:
    """A CSV file whose first column is the path; `truths` are the classes of the rows below the first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for row, truth in zip(rows[1:], truths, strict=True):
        picture(file.parent / row[0], truth)
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened, delimiter=separator).writerows(rows)


def food101(root: Path) -> None:
    found = {}
    for split, indices in (("train", (0, 1)), ("test", (2,))):
        found[split] = {name: [f"{name}/{index}" for index in indices] for name in ("apple_pie", "waffles")}
        write(root / "food-101" / "meta" / f"{split}.json", json.dumps(found[split]))
        for truth, files in enumerate(found[split].values()):
            for file in files:
                picture(root / "food-101" / "images" / f"{file}.jpg", truth)


def dtd(root: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        lines = [f"{name}/{name}_{number}.jpg" for name in ("banded", "woven")]
        for truth, line in enumerate(lines):
            picture(root / "dtd" / "dtd" / "images" / line, truth)
        write(root / "dtd" / "dtd" / "labels" / f"{split}1.txt", "\n".join(lines) + "\n")


def pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for number, split in enumerate(("trainval", "test")):
        names = [f"{name}_{number}" for name in ("Abyssinian", "Beagle")]
        for truth, name in enumerate(names):
            picture(base / "images" / f"{name}.jpg", truth)
        lines = [f"{name} {truth + 1} 1 1" for truth, name in enumerate(names)]
        write(base / "annotations" / f"{split}.txt", "\n".join(lines) + "\n")


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    write(data / "variants.txt", "707-320\nA300B4\n")
    for number, split in enumerate(("train", "val", "trainval", "test")):
        numbers = (0, 1) if split == "trainval" else (number,)
        lines = []
        for part in numbers:
            for truth, name in enumerate(("707-320", "A300B4")):
                picture(data / "images" / f"{part}{truth}.jpg", truth)
                lines.append(f"{part}{truth} {name}")
        write(data / f"images_variant_{split}.txt", "\n".join(lines) + "\n")


def eurosat(root: Path) -> None:
    class_folders(root / "eurosat", {"2750": 10}, ("Forest", "River"))


def cifar10(root: Path) -> None:
    base = root / "cifar-10-batches-py"
    base.mkdir(parents=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for name in names:
        pixels = numpy.full((4, 3, 32, 32), 90, numpy.uint8)
        pixels[:, 0] = numpy.array([0, 1, 2, 1], numpy.uint8)[:, None, None] * STEP
        content = {"data": pixels.reshape(4, -1), "labels": [0, 1, 2, 1]}
        (base / name).write_bytes(pickle.dumps(content))
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": classes}))
