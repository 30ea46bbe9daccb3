"""The data sets of torchvision that vitrim opens: their splits, files, options and sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitrim.data.places import plain

Arguments = Mapping[str, Any]
TRAIN_TEST: Mapping[str, Arguments] = {"train": {"train": True}, "test": {"train": False}}


def _splits(*names: str, **spelt: str) -> Mapping[str, Arguments]:
    return {name: {"split": spelt.get(name, name)} for name in names}


@dataclass(frozen=True)
class Known:
    """A class of torchvision.datasets: the arguments of each split, and what it looks for below the root."""

    splits: Mapping[str, Arguments]
    files: str
    options: tuple[str, ...] = ()  # arguments a spec may set
    sizes: Mapping[str, int] = field(default_factory=dict)
    download: bool = True


SETS: dict[str, Known] = {
    "CIFAR10": Known(TRAIN_TEST, "cifar-10-batches-py/", sizes={"train": 50_000, "test": 10_000}),
    "CIFAR100": Known(TRAIN_TEST, "cifar-100-python/", sizes={"train": 50_000, "test": 10_000}),
    "SVHN": Known(
        _splits("train", "test"),
        "train_32x32.mat and test_32x32.mat",
        sizes={"train": 73_257, "test": 26_032},
    ),
    "Food101": Known(_splits("train", "test"), "food-101/", sizes={"train": 75_750, "test": 25_250}),
    "Flowers102": Known(
        _splits("train", "val", "test"), "flowers-102/", sizes={"train": 1_020, "val": 1_020, "test": 6_149}
    ),
    "FGVCAircraft": Known(
        _splits("train", "val", "trainval", "test"),
        "fgvc-aircraft-2013b/",
        ("annotation_level",),
        {"train": 3_334, "val": 3_333, "test": 3_333},
    ),
    "StanfordCars": Known(
        _splits("train", "test"), "stanford_cars/", sizes={"train": 8_144, "test": 8_041}, download=False
    ),
    "DTD": Known(
        _splits("train", "val", "test"),
        "dtd/dtd/",
        ("partition",),
        {"train": 1_880, "val": 1_880, "test": 1_880},
    ),
    "OxfordIIITPet": Known(
        _splits("train", "test", train="trainval"), "oxford-iiit-pet/", sizes={"train": 3_680, "test": 3_669}
    ),
    "EuroSAT": Known({"": {}}, "eurosat/2750/"),
    "SUN397": Known({"": {}}, "SUN397/"),
    "Caltech101": Known({"": {}}, "caltech101/101_ObjectCategories/"),
    "GTSRB": Known(_splits("train", "test"), "gtsrb/", sizes={"train": 26_640, "test": 12_630}),
    "Country211": Known(_splits("train", "val", "test", val="valid"), "country211/"),
    "RenderedSST2": Known(_splits("train", "val", "test"), "rendered-sst2/"),
    "STL10": Known(_splits("train", "test"), "stl10_binary/", sizes={"train": 5_000, "test": 8_000}),
    "MNIST": Known(TRAIN_TEST, "MNIST/raw/", sizes={"train": 60_000, "test": 10_000}),
    "FashionMNIST": Known(TRAIN_TEST, "FashionMNIST/raw/", sizes={"train": 60_000, "test": 10_000}),
    "ImageNet": Known(
        _splits("train", "test", test="val"),
        "train/ and val/ with one folder per class, and ILSVRC2012_devkit_t12.tar.gz",
        sizes={"test": 50_000},
        download=False,
    ),
}
NAMES = {plain(name): name for name in SETS}
