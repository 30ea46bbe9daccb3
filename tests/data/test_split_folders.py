"""Folders that are splits are never taken for classes, nor the reverse; what is unclear is refused."""

from pathlib import Path

import pytest
from PIL import Image

from vitrim.data import DataSource, open_data
from vitrim.data.split_folders import Looks, looks


def make(root: Path, *folders: str, count: int = 4) -> str:
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (4, 4), (index, 0, 0)).save(root / folder / f"{index}.png")
    return f"folder:{root}"


def two_classes(*splits: str) -> list[str]:
    return [f"{split}/{name}" for split in splits for name in ("cat", "dog")]


def sizes(data: DataSource) -> dict[str, int]:
    return {name: len(split) for name, split in data.splits.items() if name != "trainval"}


@pytest.mark.parametrize(
    "train, other, split",
    [
        ("Training", "Testing", "test"),
        ("train_set", "test_set", "test"),
        ("training_set", "test_set", "test"),
        ("seg_train", "seg_test", "test"),
        ("seg_train/seg_train", "seg_test/seg_test", "test"),
        ("train/train", "test/test", "test"),
        ("train_images", "test_images", "test"),
        ("train_images", "test", "test"),
        ("TrainImages", "ValImages", "val"),
        ("trainset", "testset", "test"),
        ("TRAIN", "DEV", "val"),
        ("train", "valid", "val"),
        ("train-data", "validation-data", "val"),
        ("train2017", "val2017", "val"),
        ("flowers_train", "flowers_test", "test"),
        ("01_train", "02_test", "test"),
        ("train (1)", "test (1)", "test"),
    ],
)
def test_usual_spellings_are_splits(tmp_path: Path, train: str, other: str, split: str) -> None:
    data = open_data(make(tmp_path, *two_classes(train, other)))
    assert data.classes == ("cat", "dog") and sizes(data) == {"train": 8, split: 8}


def test_three_splits_and_what_is_beside_them(tmp_path: Path) -> None:
    folders = two_classes("seg_train/seg_train", "seg_val", "seg_test/seg_test")
    data = open_data(make(tmp_path, *folders, "seg_pred/seg_pred"))
    assert sizes(data) == {"train": 8, "val": 8, "test": 8}
    assert data.notes == ("left alone, as they are no splits: seg_pred",)


@pytest.mark.parametrize(
    "folders, classes",
    [
        (("bus", "train", "tram"), ("bus", "train", "tram")),
        (("bus", "train", "test"), ("bus", "test", "train")),
        (("dev", "production"), ("dev", "production")),
        (("train_station", "test_tube"), ("test_tube", "train_station")),
        (("train_station/a", "test_tube/b"), ("test_tube", "train_station")),
        (("train_station", "train_track", "test_tube"), ("test_tube", "train_station", "train_track")),
        (("toy_train", "toy_car"), ("toy_car", "toy_train")),
        (("contest", "latest", "trainer"), ("contest", "latest", "trainer")),
        (("cat/1", "dog/1", "dog/2"), ("cat", "dog")),
    ],
)
def test_classes_called_like_splits_are_classes(tmp_path: Path, folders, classes) -> None:
    data = open_data(make(tmp_path, *folders))
    assert data.classes == classes and set(data.splits) == {"train", "val", "trainval", "test"}
    named = sorted({"train", "test", "dev"} & set(classes))
    assert any(f"taken for classes: {', '.join(named)}" in note for note in data.notes) is bool(named)


@pytest.mark.parametrize(
    "folders, sentence",
    [
        (("train_set", "test_set"), "_set has no class folders, only images"),
        (("train_cat", "train_dog", "test_cat", "test_dog"), "look like several of each split (test_cat,"),
        (two_classes("train_images", "train_masks", "test_images", "test_masks"), "several of each split"),
        (
            two_classes("train_images", "train_data", "test"),
            "has both train_data/ and train_images/; keep one",
        ),
        (two_classes("train", "Training", "test"), "has both Training/ and train/; keep one"),
        (
            two_classes("fold1", "fold2"),
            "(fold1, fold2) look like splits, as each of them holds the folders cat, dog",
        ),
        (two_classes("train_a", "test_b"), "look like splits, as each of them holds"),
        (two_classes("trainval", "test"), "has test/ but no train/ folder"),
        (two_classes("Training", "evaluation"), "has Training/ but neither val/ nor test/"),
        (
            ("cat/train", "cat/test", "dog/train", "dog/test"),
            "has train/ and test/ in it, the splits inside the class",
        ),
        (two_classes("dataset"), "give HERE/dataset if the classes are in there"),
    ],
)
def test_what_is_unclear_is_refused(tmp_path: Path, folders, sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        open_data(make(tmp_path, *folders))
    assert sentence.replace("HERE", str(tmp_path)) in str(error.value) and "\n" not in str(error.value)


def test_the_same_folders_in_every_class_are_worth_a_note(tmp_path: Path) -> None:
    data = open_data(make(tmp_path, "cat/front", "cat/side", "dog/front", "dog/side"))
    assert data.classes == ("cat", "dog")
    assert any(
        "holds the folders front, side, whose images are taken together" in note for note in data.notes
    )


def test_a_test_folder_of_one_class(tmp_path: Path) -> None:
    data = open_data(make(tmp_path, *two_classes("train"), "test/dog", "val/cat"))
    assert data.classes == ("cat", "dog")
    assert set(data.split("test").labels) == {1} and set(data.split("val").labels) == {0}
    with pytest.raises(ValueError, match="has one class only"):
        open_data(make(tmp_path / "x", "train/cat", "test/cat"))


def test_a_split_folder_that_links_to_itself_ends(tmp_path: Path) -> None:
    spec = make(tmp_path, *two_classes("train"))
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "test").symlink_to(tmp_path / "test")
    with pytest.raises(ValueError, match="no images in the class folders"):
        open_data(spec)


@pytest.mark.parametrize(
    "name, found",
    [
        ("seg_train", Looks("train", ("seg",))),
        ("testImages", Looks("test")),
        ("train_test", None),
        ("attest", None),
    ],
)
def test_what_a_name_says(name: str, found: Looks | None) -> None:
    assert looks(name) == found
