"""Every layout people have on disk opens as it is, and every picture gets the label that belongs to it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import archives
import pytest
from archives import truth_of

from vitrim.data import describe, open_data
from vitrim.data.vtab_tasks import TASKS

BIRDS = ("001.Albatross/{}.jpg", "002.Auklet/{}.jpg", "009.Blackbird/{}.jpg")
DOGS = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel")
NOAH = {"train": 4, "val": 2, "trainval": 6, "test": 4}
VPT3 = {"train": 6, "val": 2, "trainval": 8, "test": 3}
FEW = {"train": "{index}.jpg", "val": "v{index}.jpg", "test": "t{index}.jpg"}


def csv_rows(labels, splits=("train", "train", "train", "val", "test", "test")):
    return [
        ("path", "label", "split"),
        *((f"my pictures/{n}.png", labels[n % 2], split) for n, split in enumerate(splits)),
    ]


# name: (what makes it, the spec, class names by true class, images per split)
LAYOUTS: dict[str, tuple[Callable[[Path], object], str, tuple[str, ...], dict[str, int]]] = {
    "vtab noah": (lambda root: archives.noah(root / "vtab-1k" / "svhn"), "vtab:svhn", ("0", "1"), NOAH),
    "vtab png, lists that share images": (
        lambda root: archives.noah(root / "dsprites_loc", "png", own_trainval=False),
        "vtab:dsprites_loc",
        ("0", "1"),
        NOAH,
    ),
    "vtab v-petl": (
        lambda root: archives.noah(root / "vtab-1k" / "cifar100"),
        "vtab:cifar",
        ("0", "1"),
        NOAH,
    ),
    "vtab synqt": (
        lambda root: archives.synqt(root / "vtab-1k-png" / "dtd"),
        "vtab:dtd",
        ("0", "1"),
        {"trainval": 6, "test": 4},
    ),
    "fgvc cub, ids with gaps": (
        lambda root: archives.vpt(root / "CUB_200_2011", "images", BIRDS, (1, 2, 9)),
        "fgvc:CUB",
        ("001.Albatross", "002.Auklet", "009.Blackbird"),
        VPT3,
    ),
    "fgvc nabirds, ids not in the order of the folders": (
        lambda root: archives.vpt(root / "fgvc" / "nabirds", "images", BIRDS, (20, 3, 11)),
        "fgvc:nabirds",
        ("001.Albatross", "002.Auklet", "009.Blackbird"),
        VPT3,
    ),
    "fgvc flowers": (
        lambda root: archives.vpt(root / "OxfordFlower", "", ("jpg/a{}.jpg", "jpg/b{}.jpg"), (0, 1)),
        "fgvc:OxfordFlowers",
        ("0", "1"),
        {"train": 4, "val": 1, "trainval": 5, "test": 2},
    ),
    "fgvc dogs": (
        lambda root: archives.vpt(
            root / "stanforddogs", "Images", [f"{dog}/{{}}.jpg" for dog in DOGS], (0, 1)
        ),
        "fgvc:StanfordDogs",
        DOGS,
        {"train": 4, "val": 1, "trainval": 5, "test": 2},
    ),
    "fgvc cars, folder as root": (
        lambda root: archives.vpt(root, "", ("cars_train/a{}.jpg", "cars_train/b{}.jpg"), (5, 6)),
        "fgvc:cars",
        ("5", "6"),
        {"train": 4, "val": 1, "trainval": 5, "test": 2},
    ),
    "fgvc cub as released": (
        lambda root: archives.official_lists(root / "CUB_200_2011", ("001.Albatross", "002.Auklet"), (1, 2)),
        "fgvc:cub",
        ("the 001.Albatross", "the 002.Auklet"),
        {"train": 6, "test": 2},
    ),
    "fgvc nabirds as released, val held out": (
        lambda root: archives.official_lists(root / "nabirds", ("0817", "0295"), (817, 295)),
        "fgvc:nabirds?val=0.3&seed=4",
        ("the 0817", "the 0295"),
        {"train": 4, "val": 2, "trainval": 6, "test": 2},
    ),
    "fgvc dogs as released": (
        lambda root: archives.dogs(root / "stanford_dogs", DOGS),
        "fgvc:dogs",
        DOGS,
        {"train": 4, "test": 2},
    ),
    "fgvc flowers in folders": (
        lambda root: archives.class_folders(root / "flowers102", {"train": 2, "val": 1}, ("a", "b")),
        "fgvc:flowers",
        ("a", "b"),
        {"train": 4, "test": 2},
    ),
    "fewshot noah": (
        lambda root: archives.few_shot(
            root / "few-shot" / "fgvc-aircraft" / "annotations",
            root / "few-shot" / "fgvc-aircraft" / "images",
            FEW,
        ),
        "fewshot:fgvc_aircraft?shots=2&seed=1",
        ("0", "1"),
        {"train": 4, "val": 4, "test": 4},
    ),
    "fewshot cars, images beside the lists": (
        lambda root: archives.few_shot(
            root / "stanford_cars" / "annotations",
            root / "stanford_cars",
            {"train": "cars_train/{index}.jpg", "test": "cars_test/{index}.jpg"},
        ),
        "fewshot:stanford_cars-FS?shots=2&seed=1",
        ("0", "1"),
        {"train": 4, "test": 4},
    ),
    "fewshot imagenet, tested on val": (
        lambda root: (
            archives.few_shot(
                root / "imagenet", root / "imagenet" / "train", {"train": "n{truth}/{index}.jpg"}
            ),
            archives.few_shot(root / "imagenet", root / "imagenet" / "val", {"val": "val_{index}.jpg"}),
        ),
        "fewshot:imagenet?shots=2&seed=1",
        ("0", "1"),
        {"train": 4, "test": 4},
    ),
    "fewshot repadapter": (
        lambda root: (
            archives.few_shot(
                root / "few_shot" / "food-101",
                root / "few_shot" / "food-101" / "images" / "train",
                {"train": "apple pie/{index}.jpg"},
            ),
            archives.few_shot(
                root / "few_shot" / "food-101",
                root / "few_shot" / "food-101" / "images" / "test",
                {"test": "apple pie/{index}.jpg"},
            ),
        ),
        "fewshot:food101?shots=2&seed=1",
        ("0", "1"),
        {"train": 4, "test": 4},
    ),
    "fewshot pets, 1 shot twice": (
        lambda root: archives.few_shot(
            root / "pets" / "annotations", root / "pets" / "images", FEW, shots=1, repeat=2
        ),
        "fewshot:oxford-pets?shots=1&seed=1",
        ("0", "1"),
        {"train": 4, "val": 4, "test": 4},
    ),
    "fewshot lists of any folder": (
        lambda root: archives.few_shot(root / "mine" / "annotations", root / "mine", FEW),
        "fewshot:mine?shots=2&seed=1",
        ("0", "1"),
        {"train": 4, "val": 4, "test": 4},
    ),
    "fewshot drawn": (
        lambda root: archives.class_folders(root / "mine", {"": 10}, ("ant", "bee")),
        "fewshot:mine?shots=3&seed=2",
        ("ant", "bee"),
        {"train": 6, "val": 2, "test": 4},
    ),
    "csv with words, semicolons": (
        lambda root: archives.table(root / "t.csv", csv_rows(("wasp", "ant")), ";", (0, 1, 0, 1, 0, 1)),
        "csv:t.csv",
        ("wasp", "ant"),
        {"train": 3, "val": 1, "trainval": 4, "test": 2},
    ),
    "csv with numbers, tabs, own columns": (
        lambda root: archives.table(
            root / "t.tsv",
            [("photo", "x", "kind"), *((f"{n}.png", "?", ("10", "9")[n % 2]) for n in range(6))],
            "\t",
            (0, 1, 0, 1, 0, 1),
        ),
        "csv:t.tsv?path=photo&label=kind&seed=5",
        ("10", "9"),
        {"train": 2, "val": 2, "trainval": 4, "test": 2},
    ),
    "csv, val held out": (
        lambda root: archives.table(
            root / "t.csv",
            csv_rows(("a", "b"), ["train"] * 8 + ["test"] * 2),
            ",",
            (0, 1) * 5,
        ),
        "csv:t.csv?val=0.25",
        ("a", "b"),
        {"train": 6, "val": 2, "trainval": 8, "test": 2},
    ),
    "torchvision food101": (
        archives.food101,
        "torchvision:Food101",
        ("apple_pie", "waffles"),
        {"train": 4, "test": 2},
    ),
    "torchvision dtd": (
        archives.dtd,
        "torchvision:DTD?partition=1",
        ("banded", "woven"),
        {"train": 2, "val": 2, "trainval": 4, "test": 2},
    ),
    "torchvision pets": (
        archives.pets,
        "torchvision:OxfordIIITPet",
        ("Abyssinian", "Beagle"),
        {"train": 2, "test": 2},
    ),
    "torchvision aircraft": (
        archives.aircraft,
        "torchvision:FGVCAircraft",
        ("707-320", "A300B4"),
        {"train": 2, "val": 2, "trainval": 4, "test": 2},
    ),
    "torchvision eurosat": (
        archives.eurosat,
        "torchvision:eurosat?seed=1",
        ("Forest", "River"),
        {"train": 14, "val": 2, "trainval": 16, "test": 4},
    ),
}


def check(spec: str, root: Path, classes: tuple[str, ...], counts: dict[str, int]) -> None:
    data = open_data(spec, root=root)
    assert {name: len(split) for name, split in data.splits.items()} == counts
    for split in data.splits.values():
        for image, label in split:
            assert data.classes[label] == classes[truth_of(image)]
    assert len(set(data.split("test").names)) == len(data.split("test"))
    again = open_data(data.spec, root=root, seed=77)  # what the record of a run says opens the same again
    assert {name: split.names for name, split in again.splits.items()} == {
        name: split.names for name, split in data.splits.items()
    }
    assert describe(data).startswith(data.spec)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(tmp_path, layout):
    make, spec, classes, counts = LAYOUTS[layout]
    make(tmp_path)
    check(spec, tmp_path, classes, counts)


def test_torchvision_arrays(tmp_path, monkeypatch):
    """CIFAR: torchvision checks digests of the real files, which these are not."""
    from torchvision.datasets import CIFAR10, cifar

    archives.cifar10(tmp_path)
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)
    names = ("airplane", "automobile", "bird")
    check(
        "torchvision:CIFAR10?val=0.2&seed=3",
        tmp_path,
        names,
        {"train": 16, "val": 4, "trainval": 20, "test": 4},
    )
    assert len(open_data("torchvision:cifar10", root=tmp_path).classes) == 10


@pytest.mark.parametrize("form", ["save_to_disk", "parquet", "folders"])
def test_hugging_face_folders(tmp_path, form, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="the library `datasets` is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    archives.class_folders(tmp_path / "raw", {"train": 3, "test": 2}, ("bee", "ant"))
    if form == "folders":
        (tmp_path / "raw").rename(tmp_path / "mine")
    else:
        files = {split: [] for split in ("train", "validation", "test")}
        for path in sorted((tmp_path / "raw").rglob("*.jpg")):
            split = path.parts[-3] if path.stem != "2" else "validation"
            files[split].append((str(path), ("bee", "ant").index(path.parts[-2])))
        features = datasets.Features(
            {
                "photo": datasets.Image(),
                "id": datasets.Value("int64"),
                "kind": datasets.ClassLabel(names=["bee", "ant"]),
            }
        )
        parts = {
            name: datasets.Dataset.from_dict(
                {
                    "photo": [path for path, _ in rows],
                    "id": list(range(len(rows))),
                    "kind": [k for _, k in rows],
                },
                features=features,
            )
            for name, rows in files.items()
        }
        if form == "save_to_disk":
            datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "mine"))
        else:
            (tmp_path / "mine").mkdir()
            for name, part in parts.items():
                part.to_parquet(str(tmp_path / "mine" / f"{name}.parquet"))
    if form == "folders":
        check("hf:mine", tmp_path, ("bee", "ant"), {"train": 6, "test": 4})
        check("hf:mine?val=0.3", tmp_path, ("bee", "ant"), {"train": 4, "val": 2, "trainval": 6, "test": 4})
    else:
        check("hf:mine", tmp_path, ("bee", "ant"), {"train": 4, "val": 2, "trainval": 6, "test": 4})
        check(
            "hf:mine?label=kind&train=validation",
            tmp_path,
            ("bee", "ant"),
            {"train": 2, "val": 2, "trainval": 4, "test": 4},
        )


def test_hugging_face_words_as_labels_and_a_test_without(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the library `datasets` is not installed")
    files = [str(archives.picture(tmp_path / f"{n}.png", n % 2)) for n in range(10)]
    train = datasets.Dataset.from_dict({"image": files, "label": ["wasp", "ant"] * 5})
    datasets.DatasetDict({"train": train.cast_column("image", datasets.Image())}).save_to_disk(
        tmp_path / "words"
    )
    check("hf:words", tmp_path, ("wasp", "ant"), {"train": 6, "val": 2, "trainval": 8, "test": 2})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    parts = {
        name: datasets.Dataset.from_dict({"image": files, "label": labels}, features=features)
        for name, labels in (("train", [0, 1] * 5), ("test", [-1] * 10))
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "hidden")
    data = open_data("hf:hidden?val=0.2", root=tmp_path)
    assert list(data.splits) == ["train", "val", "trainval"]
    assert data.notes == ("test comes without labels and is left out",)


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ("hf:mine?image=picture", "has no column 'picture'; it has: image, label, size"),
        ("hf:mine?label=size", "the column 'size' holds float64, not one class per image"),
        ("hf:mine?test=final", "has no split 'final'; it has: train"),
        ("hf:mine?colour=red", "hf has no option 'colour'; it takes config, revision"),
        ("hf:raw", "`datasets` cannot open the folder"),
        ("hf:a/b/c", "there is no folder .*/a/b/c, and a name on the Hub is OWNER/NAME"),
    ],
)
def test_hugging_face_refusals(tmp_path, spec, sentence):
    datasets = pytest.importorskip("datasets", reason="the library `datasets` is not installed")
    file = str(archives.picture(tmp_path / "0.png", 0))
    columns = {"image": [file] * 4, "label": ["a", "b"] * 2, "size": [0.5] * 4}
    part = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    datasets.DatasetDict({"train": part}).save_to_disk(tmp_path / "mine")
    (tmp_path / "raw").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as error:
        open_data(spec, root=tmp_path)
    assert "\n" not in str(error.value)


def test_torchvision_downloads_when_asked(tmp_path, monkeypatch):
    """The download itself is torchvision's; what counts is that it is asked for, and then alone."""
    from torchvision import datasets

    real, asked = datasets.DTD, []

    def stand_in(root, download=False, **arguments):
        asked.append(download)
        if download and not (Path(root) / "dtd").exists():
            archives.dtd(Path(root))
        return real(root, **arguments)

    monkeypatch.setattr(datasets, "DTD", stand_in)
    with pytest.raises(FileNotFoundError, match="--download fetches it"):
        open_data("torchvision:DTD", root=tmp_path)
    assert asked == [False]
    assert len(open_data("torchvision:DTD", root=tmp_path, download=True).split("test")) == 2
    assert asked.count(True) == 3


def test_hugging_face_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"`datasets`, which is not installed; pip install 'vitrim\[hf\]'"):
        open_data("hf:mine", root=tmp_path)


def test_nothing_is_fetched_unless_asked(tmp_path, monkeypatch):
    import socket

    def no_network(*_, **__):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(
        FileNotFoundError, match=r"is not in .* or not whole: it expects cifar-100-python/ there; --download"
    ):
        open_data("torchvision:CIFAR100", root=tmp_path)
    with pytest.raises(
        ValueError, match="fgvc has nothing to download, vitrim fetches torchvision and hf only"
    ):
        open_data("fgvc:cub", root=tmp_path, download=True)
    with pytest.raises(ValueError, match="torchvision cannot download StanfordCars; put stanford_cars/ into"):
        open_data("torchvision:StanfordCars", root=tmp_path, download=True)
    pytest.importorskip("datasets", reason="the library `datasets` is not installed")
    with pytest.raises(
        FileNotFoundError, match="is neither a folder nor in the local cache of `datasets`; --download"
    ):
        open_data("hf:some-owner/some-name")


@pytest.mark.skipif(not os.environ.get("VITRIM_DATA"), reason="VITRIM_DATA names no folder of real data")
@pytest.mark.parametrize("task", ["eurosat", "dsprites_loc", "dsprites_ori"])
def test_real_copies(task):
    data = open_data(f"vtab:{task}", root=os.environ["VITRIM_DATA"])
    assert [len(data.split(name)) for name in ("train", "val", "trainval")] == [800, 200, 1000]
    assert data.split("trainval").labels[:800] == data.split("train").labels
    assert set(data.split("test").labels) == set(range(TASKS[task].classes))
    for split in data.splits.values():
        image, _ = split[len(split) - 1]
        assert (image.mode, image.size) == ("RGB", (64, 64))


@pytest.mark.skipif(not os.environ.get("VITRIM_DATA"), reason="VITRIM_DATA names no folder of real data")
def test_a_real_copy_as_a_few_shot_set(tmp_path):
    """EuroSAT's given images linked into class folders: shots are nested, val and test stay put."""
    data = open_data("vtab:eurosat", root=os.environ["VITRIM_DATA"])
    for split in ("train", "val", "test"):
        part = data.split(split)
        for index, (name, label) in enumerate(zip(part.names, part.labels, strict=True)):
            folder = tmp_path / split / data.classes[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index}.jpg").symlink_to(name)
    four, eight = (open_data(f"fewshot:{tmp_path}?shots={shots}&seed=1") for shots in (4, 8))
    assert (len(four.split("train")), len(eight.split("train"))) == (40, 80)
    assert set(four.split("train").names) < set(eight.split("train").names)
    assert four.split("test").names == eight.split("test").names and len(four.split("test")) == 2000
    other = open_data(f"fewshot:{tmp_path}?shots=4&seed=2")
    assert other.split("train").names != four.split("train").names
