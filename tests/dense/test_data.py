"""Segmentation data as it lies on disk: masks read exactly, splits that do not leak, or one sentence."""

import json
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from vitrim.backbones.preprocess import Preprocess
from vitrim.dense.classes import IGNORE, ClassTable
from vitrim.dense.masks import Coding, overlay, read_mask, write_mask
from vitrim.dense.spec import open_dense_data
from vitrim.dense.transforms import JointChange, covering

MASK = numpy.array([[0, 0, 1, 1], [0, 2, 2, 255], [1, 1, 2, 2]], dtype=numpy.uint8)


def picture(file: Path, size: tuple[int, int] = (4, 3)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (9, 90, 200)).save(file)


def mask(file: Path, values: numpy.ndarray = MASK, mode: str = "L") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values, mode=mode).save(file)


def own(place: Path, *names: str, classes: str | None = "ground\ncar\ntree\n") -> Path:
    for name in names:
        picture(place / "images" / f"{name}.png")
        mask(place / "masks" / f"{name}.png")
    if classes is not None:
        (place / "classes.txt").write_text(classes)
    return place


def test_a_folder_of_ones_own_by_lists_by_folders_and_by_seed(tmp_path: Path) -> None:
    place = own(
        tmp_path / "lists", "a", "b", "film/1", "film/2", classes="sea 0 0 255\nold car 255 0 0\nx 1 2 3"
    )
    (place / "train.txt").write_text("a\nfilm\n")
    (place / "val.txt").write_text("images are not named with their folder.png\n")
    with pytest.raises(ValueError, match=r"val.txt names 'images are not named with their folder'"):
        open_dense_data(f"seg:{place}")
    (place / "val.txt").write_text("b.png\n")
    data = open_dense_data(f"seg:{place}")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 3, "val": 1, "trainval": 4}
    assert data.table.names == ("sea", "old car", "x") and data.table.colours[1] == (255, 0, 0)
    image, labels = data.split("val")[0]
    assert image.size == (4, 3) and (labels == MASK).all()
    folders = own(tmp_path / "folders", "train/a", "validation/b", "test/c")
    assert list(open_dense_data(f"seg:{folders}").splits) == ["train", "val", "trainval", "test"]
    films = own(tmp_path / "films", *(f"{film}/{frame}" for film in "abcd" for frame in "123"))
    data = open_dense_data(f"seg:{films}", seed=3)
    assert data.spec.endswith("?seed=3") and "by seed 3, folders kept together" in data.notes[0]
    filmed = {
        name: {Path(path).parent.name for path in data.splits[name].names}
        for name in ("train", "val", "test")
    }
    assert sorted(film for part in filmed.values() for film in part) == list("abcd")
    assert open_dense_data(data.spec, seed=9).split("val").names == data.split("val").names


def test_what_is_wrong_with_a_folder_is_said_in_a_sentence(tmp_path: Path) -> None:
    place = own(tmp_path, "a", "b", "c", classes=None)
    with pytest.raises(
        FileNotFoundError, match="NAME or NAME RED GREEN BLUE, or name them with classes=ground"
    ):
        open_dense_data(f"seg:{place}")
    short = open_dense_data(f"seg:{place}?classes=ground,car")
    with pytest.raises(ValueError, match="holds the value 2, but classes are 0 to 1 and no class is 255"):
        short.split("train")[0]
    (place / "masks" / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 1 pictures have no mask: b; a mask is a PNG"):
        open_dense_data(f"seg:{place}?classes=a,b,c")
    mask(place / "masks" / "b.png", MASK[:2])
    data = open_dense_data(f"seg:{place}?classes=a,b,c")
    places = [(split, i) for split in ("train", "val", "test") for i in range(len(data.split(split)))]
    odd = next((s, i) for s, i in places if data.split(s).names[i].endswith("b.png"))
    with pytest.raises(ValueError, match=r"b.png has 4 x 3 pixels, but its mask 4 x 2"):
        data.split(odd[0])[odd[1]]
    for spec, words in (
        ("seg", "seg needs a folder"),
        (f"seg:{place}/none", "which is not there"),
        (f"seg:{place}?classes=a,b,c&white=grey", "must be class or ignore"),
        (f"seg:{place}?classes=a,b,c&colour=1", "seg has no option 'colour'"),
        (f"seg:{place}?classes=a,b,c&ignore=x", "must be stored numbers between commas"),
        ("segs:x", "kind of segmentation data"),
    ):
        with pytest.raises((ValueError, OSError), match=words):
            open_dense_data(spec)
    (place / "train.txt").write_text("a\n")
    (place / "val.txt").write_text("a\n")
    with pytest.raises(ValueError, match="both name a; a picture to measure on must not be trained on"):
        open_dense_data(f"seg:{place}?classes=a,b,c")


def test_masks_are_read_exactly_however_they_are_stored(tmp_path: Path) -> None:
    table = ClassTable(("ground", "car", "tree"))
    file = tmp_path / "mask.png"
    write_mask(file, MASK, table)
    with Image.open(file) as stored:
        assert stored.mode == "P" and stored.getpalette()[3:6] == [128, 0, 0]
    assert (read_mask(file, Coding.plain(table)) == MASK).all()
    with Image.open(file) as stored:
        stored.convert("RGB").save(file)
    assert (read_mask(file, Coding.plain(table)) == MASK).all()  # white is no class
    Image.fromarray(MASK.astype(numpy.uint16)).save(file)
    assert (read_mask(file, Coding.plain(table)) == MASK).all()
    shifted = numpy.where(MASK == IGNORE, 0, MASK + 1).astype(numpy.uint8)
    mask(file, shifted)
    assert (read_mask(file, Coding.plain(table, reduce_zero=True)) == MASK).all()
    two, flat = ClassTable(("ground", "thing")), numpy.array([[0, 255]], dtype=numpy.uint8)
    mask(file, flat)
    with pytest.raises(ValueError, match="holds 0 and 255 alone: say white=class if 255 is 'thing'"):
        read_mask(file, Coding.plain(two))
    assert read_mask(file, Coding.plain(two, white="class")).tolist() == [[0, 1]]
    assert read_mask(file, Coding.plain(two, white="ignore")).tolist() == [[0, 255]]
    Image.fromarray(flat).convert("1").save(file)
    assert read_mask(file, Coding.plain(two)).tolist() == [[0, 1]]
    Image.new("RGB", (2, 2), (1, 2, 3)).save(file)
    with pytest.raises(ValueError, match=r"has the colour \(1, 2, 3\), which no class has"):
        read_mask(file, Coding.plain(two))
    file.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="is not an image"):
        read_mask(file, Coding.plain(two))
    with pytest.raises(ValueError, match="masks must be stored without loss"):
        read_mask(tmp_path / "mask.jpg", Coding.plain(two))
    drawn = numpy.asarray(overlay(Image.new("RGB", (4, 3), (100, 100, 100)), MASK, table))
    assert drawn[0, 2].tolist() == [114, 50, 50] and drawn[1, 3].tolist() == [100, 100, 100]


def test_published_layouts(tmp_path: Path) -> None:
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("2007_1", "2007_2"):
        picture(voc / "JPEGImages" / f"{name}.jpg")
        mask(voc / "SegmentationClass" / f"{name}.png")
    lists = voc / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_1\n")
    (lists / "val.txt").write_text("2007_2\n")
    data = open_dense_data(f"voc:{tmp_path}")
    assert len(data.table) == 21 and (data.split("val")[0][1] == MASK).all()
    things = open_dense_data(f"voc:{tmp_path}?background=false")
    assert things.split("val")[0][1].tolist() == [[255, 255, 0, 0], [255, 1, 1, 255], [0, 0, 1, 1]]

    ade = tmp_path / "ADEChallengeData2016"
    for part in ("training", "validation"):
        picture(ade / "images" / part / "a.jpg")
        mask(ade / "annotations" / part / "a.png", numpy.full((3, 4), 150, dtype=numpy.uint8))
    rows = [f"{number}\t0.1\t1\t1\tthing {number}, other" for number in range(1, 151)]
    (ade / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]))
    data = open_dense_data(f"ade20k:{tmp_path}")
    assert data.table.names[149] == "thing 150" and int(data.split("val")[0][1].max()) == 149

    stuff = tmp_path / "stuff"
    for part in ("train2017", "val2017"):
        picture(stuff / "images" / part / "1.jpg")
        values = numpy.array([[0, 10, 12, 181], [255] * 4, [91] * 4], dtype=numpy.uint8)
        mask(stuff / "stuffthingmaps" / part / "1.png", values)
    data = open_dense_data(f"coco-stuff:{stuff}")
    assert len(data.table) == 171 and data.table.names[11] == "class 13"
    assert data.split("val")[0][1].tolist() == [[0, 10, 11, 170], [255] * 4, [80] * 4]

    city = tmp_path / "cityscapes"
    for part in ("train", "val"):
        picture(city / "leftImg8bit" / part / "ulm" / "ulm_1_leftImg8bit.png")
        values = numpy.array([[7, 33, 0, 4]] * 3, dtype=numpy.uint8)
        mask(city / "gtFine" / part / "ulm" / "ulm_1_gtFine_labelIds.png", values)
        picture(city / "gtFine" / part / "ulm" / "ulm_1_gtFine_color.png")
    assert open_dense_data(f"cityscapes:{city}").split("val")[0][1][0].tolist() == [0, 18, 255, 255]

    camvid = tmp_path / "camvid"
    for part in ("train", "val", "test"):
        picture(camvid / part / "1.png")
        mask(camvid / f"{part}annot" / "1.png", numpy.array([[0, 10, 11, 11]] * 3, dtype=numpy.uint8))
    assert open_dense_data(f"camvid:{camvid}").split("test")[0][1][0].tolist() == [0, 10, 255, 255]
    fastai = tmp_path / "fastai"
    for name in ("a", "b"):
        picture(fastai / "images" / f"{name}.png")
        mask(fastai / "labels" / f"{name}_P.png", numpy.array([[0, 1, 2, 0]] * 3, dtype=numpy.uint8))
    (fastai / "codes.txt").write_text("Animal\nVoid\nSky\n")
    (fastai / "valid.txt").write_text("b.png\n")
    data = open_dense_data(f"camvid:{fastai}")
    assert data.split("val")[0][1][0].tolist() == [0, 255, 2, 0] and len(data.split("train")) == 1


def test_instances_become_masks(tmp_path: Path) -> None:
    square = [1, 1, 4, 1, 4, 4, 1, 4]
    shapes = [
        {"image_id": 0, "category_id": 7, "area": 2, "segmentation": {"counts": [0, 3, 33], "size": [6, 6]}},
        {"image_id": 0, "category_id": 3, "area": 16, "segmentation": [square]},
    ]
    stored = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 6, "width": 6} for i in range(3)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "car"}],
        "annotations": shapes,
    }
    for number in range(3):
        picture(tmp_path / "images" / f"{number}.jpg", (6, 6))
    (tmp_path / "instances.json").write_text(json.dumps(stored))
    data = open_dense_data(f"coco:{tmp_path}")
    assert data.table.names == ("background", "car", "dog")
    found = {
        Path(name).stem: split[i][1]
        for split in (data.split(s) for s in ("train", "val", "test"))
        for i, name in enumerate(split.names)
    }
    wanted = numpy.zeros((6, 6))
    wanted[1:5, 1:5], wanted[:3, 0] = 1, 2
    assert (found["0"] == wanted).all() and not found["1"].any()
    stored["annotations"][0]["segmentation"] = {"counts": "abc"}
    (tmp_path / "instances.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="compressed run lengths are not read"):
        [split[i] for split in open_dense_data(f"coco:{tmp_path}").splits.values() for i in range(len(split))]
    (tmp_path / "instances.json").write_text("{}")
    with pytest.raises(ValueError, match=r"instances.json is no instance file of COCO's form: 'categories'"):
        open_dense_data(f"coco:{tmp_path}")


@pytest.mark.parametrize("change", ["fit", "flip", "crop"])
def test_mask_and_picture_stay_together_and_no_class_appears(change: str) -> None:
    """The picture is the mask painted: wherever a pixel is deep inside a class, the mask says that class."""
    values = numpy.kron(
        numpy.array([[0, 2, 0], [7, 0, 9]], dtype=numpy.uint8), numpy.ones((20, 20), numpy.uint8)
    )
    painted = Image.fromarray(numpy.repeat(values[..., None] * 20, 3, -1))
    torch.manual_seed(0)
    preprocess = Preprocess((32, 24), (0.0,) * 3, (1.0,) * 3, "bilinear")
    for _ in range(10):
        pixels, labels = JointChange(preprocess, change)(painted, values)
        assert pixels.shape == (3, 32, 24) and labels.shape == (32, 24) and labels.dtype == torch.long
        assert set(labels.unique().tolist()) <= {0, 2, 7, 9, IGNORE}
        said = (pixels[0] * 255 / 20).round().long()
        known = labels != IGNORE
        assert (said[known] == labels[known]).float().mean() > 0.75
        assert (pixels[:, ~known] == 0).all() and (change == "crop" or known.all())


def test_a_picture_covers_the_window_in_its_own_proportions() -> None:
    assert covering((224, 398), (224, 224)) == (224, 398)
    assert covering((100, 50), (64, 64)) == (128, 64) and covering((50, 100), (64, 32)) == (64, 128)
    assert covering((3, 1000), (32, 64)) == (32, 10667)
