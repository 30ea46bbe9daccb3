"""vtab:TASK: the layouts people have on disk, and the real copies where VITRIM_DATA names them."""

import json
from collections import Counter

import pytest
from PIL import Image

from vitrim.data import describe, open_data
from vitrim.data.vtab_tasks import TASKS


def noah(folder, classes=10, ending="png", trainval=True):
    """A small copy of the NOAH layout: 6 train, 4 val, 5 test images; labels go up from 0 and wrap."""
    lines = {}
    for split, count in (("train800", 6), ("val200", 4), ("test", 5)):
        (folder / "images" / split).mkdir(parents=True)
        lines[split] = [f"images/{split}/{index:06}.{ending} {index % classes}" for index in range(count)]
        for index in range(count):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(folder / "images" / split / f"{index:06}.{ending}")
    if trainval:
        lines["train800val200"] = lines["train800"] + lines["val200"]
    for split, text in lines.items():
        (folder / f"{split}.txt").write_text("\n".join(text) + "\n")
    return folder


def test_the_table_is_the_published_one():
    assert len(TASKS) == 19
    assert Counter(task.group for task in TASKS.values()) == {"natural": 7, "specialized": 4, "structured": 8}
    assert sum(task.classes for task in TASKS.values()) == 940
    assert TASKS["smallnorb_ele"].classes == 9 and TASKS["kitti"].test_images == 711


@pytest.mark.parametrize("place", ["", "vtab-1k", "vtab"])
@pytest.mark.parametrize("folder", ["oxford_iiit_pet", "oxford_pet", "pets"])
@pytest.mark.parametrize("asked", ["oxford_iiit_pet", "Pets"])
def test_any_alias_is_found_in_any_usual_place(tmp_path, place, folder, asked):
    noah(tmp_path / place / folder)
    data = open_data(f"vtab:{asked}", root=tmp_path)
    assert data.spec == "vtab:oxford_iiit_pet"
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 6,
        "val": 4,
        "trainval": 10,
        "test": 5,
    }
    assert data.classes == tuple(str(number) for number in range(37))


def test_hyphenated_names_and_the_task_folder_itself_as_root(tmp_path):
    noah(tmp_path / "clevr-count-all", classes=8)
    assert open_data("vtab:clevr_count", root=tmp_path).spec == "vtab:clevr_count"
    assert open_data("vtab:clevr-count-all", root=tmp_path / "clevr-count-all").spec == "vtab:clevr_count"


def test_images_come_from_the_path_in_the_list(tmp_path):
    folder = noah(tmp_path / "svhn")
    (folder / "images" / "test" / "000003.png").rename(folder / "my picture.png")
    lines = "\ufeffimages/test/000001.png 1\n\nmy picture.png\t3\n"
    (folder / "test.txt").write_text(lines, encoding="utf-8")
    test = open_data("vtab:svhn", root=tmp_path).split("test")
    assert test.labels == (1, 3) and test.names[1] == str(folder / "my picture.png")
    assert test[1][0].getpixel((0, 0)) == (3, 0, 0)


def test_trainval_is_made_of_train_and_val_where_its_list_is_missing(tmp_path):
    noah(tmp_path / "svhn", trainval=False)
    data = open_data("vtab:svhn", root=tmp_path)
    assert data.split("trainval").names == data.split("train").names + data.split("val").names


def test_class_names_and_notes_on_odd_sizes(tmp_path):
    folder = noah(tmp_path / "patch_camelyon", classes=2)
    (folder / "classes.txt").write_text("healthy\ntumour\n")
    data = open_data("vtab:patch_camelyon", root=tmp_path)
    assert data.classes == ("healthy", "tumour")
    assert "test has 5 images where VTAB-1k has 32,768" in describe(data)


def test_synqt_json_lists(tmp_path):
    folder = tmp_path / "vtab-1k-png" / "eurosat"
    (folder / "images").mkdir(parents=True)
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (8, 8)).save(folder / "images" / name)
    (folder / "train800val200.json").write_text(json.dumps([{"b.png": 7}, {"a.png": 0}]))
    (folder / "test.json").write_text(json.dumps([{"c.png": 9}]))
    data = open_data("vtab:eurosat", root=tmp_path)
    assert list(data.splits) == ["trainval", "test"]
    assert data.split("trainval").labels == (7, 0)
    assert data.split("trainval").names[0] == str(folder / "images" / "b.png")
