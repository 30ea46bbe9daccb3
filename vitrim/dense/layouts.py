"""Published segmentation data sets as they lie on disk once unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vitrim.data.source import Spec
from vitrim.dense.classes import IGNORE, ClassTable
from vitrim.dense.masks import Coding
from vitrim.dense.own_folder import check_splits, flag
from vitrim.dense.pairing import by_lists, folder, lines, listed, paired, pictures
from vitrim.dense.published import (
    CAMVID,
    CITYSCAPES,
    CITYSCAPES_IDS,
    COCO_STUFF_GAPS,
    VOC,
)
from vitrim.dense.source import DenseData, DenseSplit, with_trainval


def open_voc(spec: Spec) -> DenseData:
    """`voc:PATH`: VOC2012 or the VOCdevkit above it. JPEGImages/, SegmentationClass/,
    ImageSets/Segmentation/train.txt, val.txt; with augmented=true SegmentationClassAug/ and trainaug.txt;
    with background=false the 20 classes of things, the rest counting for nothing."""
    spec.allow("augmented", "background")
    place = _below(spec, "VOC2012", "JPEGImages")
    augmented = flag(spec, "augmented")
    images = pictures(folder(place / "JPEGImages", "voc"))
    masks = pictures(folder(place / ("SegmentationClassAug" if augmented else "SegmentationClass"), "voc"))
    lists = listed(folder(place / "ImageSets" / "Segmentation", "voc"))
    lists = {name: file for name, file in lists.items() if name in ("train", "val")}
    if augmented:
        found = [file for file in place.glob("ImageSets/Segmentation/train*aug.txt") if file.is_file()]
        if len(found) != 1:
            raise FileNotFoundError(
                f"voc with augmented=true needs one trainaug.txt in {place}/ImageSets/Segmentation"
            )
        lists["train"] = found[0]
    table, coding = VOC, Coding.plain(VOC, white="ignore")
    if not flag(spec, "background", usual=True):
        table = ClassTable(VOC.names[1:], VOC.colours[1:])  # VOC-20: pixels of no object count for nothing
        coding = Coding.plain(table, reduce_zero=True, white="ignore")
    parts = by_lists(images, lists)
    return _data(spec, table, {name: paired(part, masks, coding) for name, part in parts.items()})


def open_ade20k(spec: Spec) -> DenseData:
    """`ade20k:PATH`: ADEChallengeData2016 with images/training, annotations/training, ... 150 classes from 1,
    0 is no class; names from objectInfo150.txt where it is there."""
    spec.allow()
    place = _below(spec, "ADEChallengeData2016", "annotations")
    table = ClassTable(_ade_names(place / "objectInfo150.txt"))
    coding = Coding.plain(table, reduce_zero=True, white="ignore")
    splits = {}
    for name, inside in (("train", "training"), ("val", "validation")):
        images = pictures(folder(place / "images" / inside, "ade20k"))
        masks = pictures(folder(place / "annotations" / inside, "ade20k"))
        splits[name] = paired(images, masks, coding)
    return _data(spec, table, splits)


def _ade_names(file: Path) -> tuple[str, ...]:
    """The last column of the table, the first of several names; numbers where there is no table."""
    if not file.is_file():
        return tuple(f"class {number}" for number in range(1, 151))
    names = [line.split("\t")[-1].split(",")[0].strip() for line in lines(file)[1:]]
    if len(names) != 150:
        raise ValueError(f"{file} should name 150 classes below its heading, but names {len(names)}")
    return tuple(
        name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names, start=1)
    )


def open_coco_stuff(spec: Spec) -> DenseData:
    """`coco-stuff:PATH`: images/train2017 and val2017, masks in annotations/ or stuffthingmaps/ of the same
    names: 182 numbers from 0 with eleven gaps, so 171 classes, 255 is no class. Converted masks
    (*_labelTrainIds.png), numbered without gaps, are taken where they are there."""
    spec.allow()
    place = _below(spec, "coco_stuff164k", "images")
    under = next(
        (place / name for name in ("annotations", "stuffthingmaps") if (place / name).is_dir()), None
    )
    if under is None:
        raise FileNotFoundError(f"coco-stuff needs annotations/ or stuffthingmaps/ in {place}")
    ids = [number for number in range(1, 183) if number not in COCO_STUFF_GAPS]
    table = ClassTable(_stuff_names(place / "labels.txt", ids))
    splits = {}
    for name, inside in (("train", "train2017"), ("val", "val2017")):
        images = pictures(folder(place / "images" / inside, "coco-stuff"))
        masks = pictures(folder(under / inside, "coco-stuff"))
        suffix = "_labelTrainIds"
        converted = {key.removesuffix(suffix): path for key, path in masks.items() if key.endswith(suffix)}
        values = {number - 1: place for place, number in enumerate(ids)} | {IGNORE: IGNORE}
        coding = Coding.plain(table, white="ignore") if converted else Coding(table, values)
        splits[name] = paired(images, converted or masks, coding)
    return _data(spec, table, splits)


def _stuff_names(file: Path, ids: list[int]) -> tuple[str, ...]:
    """Lines of "number: name", as the data set's labels.txt has them."""
    if not file.is_file():
        return tuple(f"class {number}" for number in ids)
    named = {}
    for line in lines(file):
        number, colon, name = line.partition(":")
        if colon and number.strip().isdecimal():
            named[int(number)] = name.strip()
    lacking = [number for number in ids if number not in named]
    if lacking:
        raise ValueError(f"{file} does not name class {lacking[0]}; it should have lines of NUMBER: NAME")
    return tuple(named[number] for number in ids)


def open_cityscapes(spec: Spec) -> DenseData:
    """`cityscapes:PATH`: leftImg8bit/ and gtFine/, train and val; 19 classes out of *_labelIds.png. The test
    images' labels are not public, so there is no test split."""
    spec.allow()
    place = _below(spec, "cityscapes", "leftImg8bit")
    values = dict.fromkeys(range(35), IGNORE) | {number: label for label, number in enumerate(CITYSCAPES_IDS)}
    coding = Coding(CITYSCAPES, values | {IGNORE: IGNORE})
    splits = {}
    for name in ("train", "val"):
        images = _without(pictures(folder(place / "leftImg8bit" / name, "cityscapes")), "_leftImg8bit")
        masks = _without(pictures(folder(place / "gtFine" / name, "cityscapes")), "_gtFine_labelIds")
        splits[name] = paired(images, masks, coding)
    return _data(spec, CITYSCAPES, splits)


def open_camvid(spec: Spec) -> DenseData:
    """`camvid:PATH`: the 11 classes of SegNet's copy, train/ and trainannot/, val/, test/ alike, 11 is no
    class; or the 32 of fastai's, images/, labels/NAME_P.png, codes.txt and valid.txt."""
    spec.allow()
    place = folder(spec.rooted(spec.rest), "camvid")
    if (place / "codes.txt").is_file():
        return _camvid_of_fastai(spec, place)
    coding = Coding.plain(CAMVID, ignored=(11, IGNORE), white="ignore")
    splits = {}
    for name in ("train", "val", "test"):
        images = pictures(folder(place / name, "camvid"))
        masks = pictures(folder(place / f"{name}annot", "camvid"))
        splits[name] = paired(images, masks, coding)
    return _data(spec, CAMVID, splits)


def _camvid_of_fastai(spec: Spec, place: Path) -> DenseData:
    names = lines(place / "codes.txt")
    table = ClassTable(tuple(names))
    void = tuple(number for number, name in enumerate(names) if name.lower() == "void")
    coding = Coding.plain(table, ignored=(*void, IGNORE), white="ignore")
    images = pictures(folder(place / "images", "camvid"))
    masks = _without(pictures(folder(place / "labels", "camvid")), "_P")
    valid = by_lists(images, {"val": place / "valid.txt"})["val"]
    train = {key: path for key, path in images.items() if key not in valid}
    parts = {"train": train, "val": valid}
    return _data(spec, table, {name: paired(part, masks, coding) for name, part in parts.items()})


def _below(spec: Spec, usual: str, landmark: str) -> Path:
    """The folder given, or the one of the usual name that lies in it or under VOCdevkit/."""
    if not spec.rest:
        raise ValueError(f"{spec.kind} needs the folder of your copy: {spec.kind}:PATH")
    place = folder(spec.rooted(spec.rest), spec.kind)
    places = (place, place / usual, place / "VOCdevkit" / usual)
    return next((each for each in places if (each / landmark).is_dir()), place)


def _without(found: Mapping[str, Path], suffix: str) -> dict[str, Path]:
    """Those whose keys end so, by what comes before."""
    return {key.removesuffix(suffix): path for key, path in found.items() if key.endswith(suffix)}


def _data(spec: Spec, table: ClassTable, splits: Mapping[str, DenseSplit]) -> DenseData:
    check_splits(splits, str(spec))
    return DenseData(str(spec), table, with_trainval(splits))
