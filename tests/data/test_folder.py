"""folder:PATH in both layouts."""

import os
import pickle
import shutil
from collections import Counter

import pytest
from PIL import Image

from vitrim.data import open_data
from vitrim.data.splitting import split_70_10_20


def fill(folder, count, start=0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(start, start + count):
        Image.new("RGB", (8, 6), (index % 256, 0, 0)).save(folder / f"{index:03}.png")


@pytest.fixture
def flowers(tmp_path):
    for name, count in (("tulip", 20), ("aster", 10), ("rose", 3)):
        fill(tmp_path / "flowers" / name, count)
    return tmp_path / "flowers"


def contents(data) -> dict:
    return {name: list(zip(split.names, split.labels, strict=True)) for name, split in data.splits.items()}


def test_unsplit_folder_is_split_70_10_20_per_class(flowers):
    data = open_data(f"folder:{flowers}")
    assert data.classes == ("aster", "rose", "tulip")
    counts = {name: Counter(split.labels) for name, split in data.splits.items()}
    assert counts["train"] == {0: 7, 1: 1, 2: 14}
    assert counts["val"] == {0: 1, 1: 1, 2: 2}
    assert counts["test"] == {0: 2, 1: 1, 2: 4}
    names = [name for split in ("train", "val", "test") for name in data.split(split).names]
    assert len(set(names)) == len(names) == 33
    assert set(data.split("trainval").names) == set(data.split("train").names) | set(data.split("val").names)
    image, label = data.split("test")[0]
    assert (image.mode, image.size, label) == ("RGB", (8, 6), 0)


def test_the_seed_moves_the_split_and_the_spec_remembers_it(flowers):
    first, third = open_data(f"folder:{flowers}"), open_data(f"folder:{flowers}", seed=3)
    assert contents(first) != contents(third)
    assert third.spec == f"folder:{flowers}?seed=3"
    assert contents(open_data(third.spec, seed=0)) == contents(third)


def test_the_split_depends_on_names_only(flowers, tmp_path):
    moved = shutil.copytree(flowers, tmp_path / "elsewhere")
    here, there = open_data(f"folder:{flowers}"), open_data(f"folder:{moved}")
    for split in here.splits:
        relative = [os.path.relpath(name, flowers) for name in here.split(split).names]
        assert relative == [os.path.relpath(name, moved) for name in there.split(split).names]
    assert [os.path.relpath(name, flowers) for name in here.split("val").names] == [
        "aster/001.png",
        "rose/001.png",
        "tulip/018.png",
        "tulip/019.png",
    ]


@pytest.mark.parametrize("train, val", [("train", "val"), ("Train", "valid"), ("train", "validation")])
def test_a_split_folder_is_taken_as_it_is(tmp_path, train, val):
    for split, count in ((train, 3), (val, 2), ("test", 1)):
        fill(tmp_path / split / "cat", count)
        fill(tmp_path / split / "ant", count + 1)
    (tmp_path / "annotations").mkdir()
    data = open_data(f"folder:{tmp_path}", seed=9)
    assert data.spec == f"folder:{tmp_path}" and data.classes == ("ant", "cat")
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 7,
        "val": 5,
        "trainval": 12,
        "test": 3,
    }
    test = [
        (str(tmp_path / "test" / name), label)
        for name, label in (("ant/000.png", 0), ("ant/001.png", 0), ("cat/000.png", 1))
    ]
    assert contents(data)["test"] == test


def test_a_class_may_be_missing_from_test(tmp_path):
    fill(tmp_path / "train" / "ant", 2)
    fill(tmp_path / "train" / "cat", 2)
    fill(tmp_path / "train" / "dog", 2)
    fill(tmp_path / "test" / "ant", 1)
    fill(tmp_path / "test" / "dog", 1)
    data = open_data(f"folder:{tmp_path}")
    assert data.split("test").labels == (0, 2)
    with pytest.raises(ValueError, match="has no 'val' split; it has: train, test"):
        data.split("val")


def test_a_class_called_train_is_a_class(tmp_path):
    for name in ("bus", "train", "tram"):
        fill(tmp_path / name, 4)
    assert open_data(f"folder:{tmp_path}").classes == ("bus", "train", "tram")


def test_nested_folders_links_and_capital_endings_count_hidden_files_do_not(flowers, tmp_path):
    fill(flowers / "rose" / "red" / "dark", 2, start=50)
    fill(tmp_path / "outside", 2, start=70)
    (flowers / "rose" / "linked").symlink_to(tmp_path / "outside")
    (flowers / "rose" / "loop").symlink_to(flowers / "rose")
    shutil.copy(flowers / "rose" / "000.png", flowers / "rose" / "UPPER.PNG")
    for junk in (".hidden.png", "notes.txt", "Thumbs.db"):
        (flowers / "rose" / junk).write_bytes(b"x")
    for junk in (".cache", "__MACOSX"):
        fill(flowers / junk, 5)
    fill(flowers / "rose" / ".thumbnails", 5)
    data = open_data(f"folder:{flowers}")
    assert data.classes == ("aster", "rose", "tulip")
    roses = [name for split in ("trainval", "test") for name, label in contents(data)[split] if label == 1]
    assert len(roses) == 3 + 2 + 2 + 1


def test_relative_path_starts_from_the_root_and_home_is_understood(flowers, monkeypatch):
    assert len(open_data("folder:flowers", root=flowers.parent).classes) == 3
    monkeypatch.setenv("HOME", str(flowers.parent))
    assert len(open_data("folder:~/flowers").classes) == 3


def test_a_question_mark_may_be_part_of_the_path(flowers):
    odd = flowers.rename(flowers.parent / "which?")
    assert open_data(f"folder:{odd}").spec == f"folder:{odd}?seed=0"
    assert open_data(f"folder:{odd}?seed=4").spec == f"folder:{odd}?seed=4"


@pytest.mark.parametrize("count", [*range(3, 40), 1000])
def test_every_size_of_class_is_split_whole_and_without_overlap(count):
    names = [f"{index}.png" for index in range(count)]
    parts = split_70_10_20(names, seed=1)
    assert sorted(parts["train"] + parts["val"] + parts["test"]) == sorted(names)
    assert min(map(len, parts.values())) >= 1 and len(parts["train"]) >= count // 2 - 1
    assert abs(len(parts["test"]) - count / 5) <= 0.5 and abs(len(parts["val"]) - count / 10) <= 0.7
    assert split_70_10_20(names[::-1], seed=1) == parts


def test_data_source_is_picklable(flowers):
    data = open_data(f"folder:{flowers}")
    assert contents(pickle.loads(pickle.dumps(data))) == contents(data)
