"""Layouts of caption files, their splits, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vitrim.retrieval.caption_data import open_captions
from vitrim.retrieval.captions import WordTokenizer, normalised

NAMES = [f"{number}.jpg" for number in range(6)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number, name in enumerate(NAMES):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / "images" / name)
    return tmp_path


def write(place: Path, name: str, content: Any) -> str:
    (place / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return f"retrieval:{place / name}"


def said(name: str) -> list[str]:
    return [f"A boat, no. {name}!", f"Something else: {name}"]


def blip(names: list[str]) -> list[dict[str, Any]]:
    return [{"image": name, "caption": said(name)} for name in names]


def test_files_for_each_split_are_found_by_blips_names(place: Path) -> None:
    one_each = [
        {"image": name, "caption": text, "image_id": name} for name in NAMES[:4] for text in said(name)
    ]
    spec = write(place, "flickr30k_train.json", one_each)
    write(place, "flickr30k_val.json", blip(NAMES[4:5]))
    write(place, "flickr30k_test.json", blip(NAMES[5:]))
    found = open_captions(spec)
    assert {part: len(split.images) for part, split in found.splits.items()} == {
        "train": 4,
        "val": 1,
        "test": 1,
    }
    train = found.split("train")
    assert train.owners == (0, 0, 1, 1, 2, 2, 3, 3)
    assert train.captions[:2] == tuple(said("0.jpg"))
    assert Path(train.images[0]).is_file()


def test_karpathys_splits_are_followed_and_restval_trains(place: Path) -> None:
    splits = ["train", "restval", "train", "val", "test", "test"]
    images = [
        {
            "filename": name,
            "filepath": "images",
            "split": split,
            "sentences": [{"raw": text} for text in said(name)],
        }
        for name, split in zip(NAMES, splits, strict=True)
    ]
    found = open_captions(write(place, "dataset.json", {"images": images, "dataset": "toy"}))
    assert {part: len(split.images) for part, split in found.splits.items()} == {
        "train": 3,
        "val": 1,
        "test": 2,
    }


def test_what_says_no_split_is_split_by_picture_and_says_so(place: Path) -> None:
    coco = {
        "images": [{"id": 7 * n, "file_name": name} for n, name in enumerate(NAMES)],
        "annotations": [
            {"image_id": 7 * n, "caption": text} for n, name in enumerate(NAMES) for text in said(name)
        ],
    }
    found = open_captions(write(place, "captions.json", coco), seed=3)
    assert {part: len(split.images) for part, split in found.splits.items()} == {
        "train": 4,
        "val": 1,
        "test": 1,
    }
    assert found.spec.endswith("?seed=3") and found.notes
    assert open_captions(found.spec) == found
    table = "image,caption\n" + "".join(f'{name},"{text}"\n' for name in NAMES for text in said(name))
    tokens = "".join(f"{name}#{n}\t{text}\n" for name in NAMES for n, text in enumerate(said(name)))
    bars = "image_name| comment_number| comment\n" + "".join(
        f"{name}| {n}| {text}\n" for name in NAMES for n, text in enumerate(said(name))
    )
    for name, content in (("captions.csv", table), ("results.token", tokens), ("results.csv", bars)):
        assert open_captions(write(place, name, content), seed=3).splits == found.splits


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.json", "{", "not valid JSON"),
        ("a.json", [], "lists no captions"),
        ("a.json", {"rows": 3}, "none of the known layouts"),
        ("a.json", [{"image": "0.jpg"}], "entry 1: its caption is None, not words"),
        ("a.json", [7], "entry 1 is 7, not an object"),
        ("a.json", [{"image": "0.jpg", "caption": "...!"}] * 2, "at least 3 images"),
        (
            "a.json",
            [{"image": "gone.jpg", "caption": "a", "split": s} for s in ("train", "val")],
            "is in val and",
        ),
        ("a.json", [{"image": "0.jpg", "caption": "a", "split": "often"}], "the split 'often' is none of"),
        ("a.csv", "photo,words\n0.jpg,a\n", "none for the image; call one path"),
        ("a.csv", "image,caption\n0.jpg\n", "line 2: 1 fields where the first line has 2"),
        ("a.token", "0.jpg a boat\n", "line 1: there is no tab"),
        ("a.xml", "<a/>", "is no kind of caption file"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(place: Path, name: str, content: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        open_captions(write(place, name, content))


def test_what_is_missing_is_named(place: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not there; give a file of captions"):
        open_captions(f"retrieval:{place}/nothing.json")
    lost = [*blip(NAMES), *blip(["6.jpg"])]
    with pytest.raises(FileNotFoundError, match=r"6\.jpg"):
        open_captions(write(place, "a.json", lost))
    marks = [{"image": name, "caption": "..."} for name in NAMES]
    with pytest.raises(ValueError, match="nothing is left of the caption"):
        open_captions(write(place, "b.json", marks))


def test_captions_are_cleaned_as_published() -> None:
    assert normalised('Two "Dogs" (brown);  at SEA.') == "two dogs brown at sea"
    assert normalised("don't, stop-now") == "don't, stop-now"
    assert len(normalised("word " * 50).split()) == 30


def test_words_have_numbers_and_unknown_ones_share_one() -> None:
    tokens = WordTokenizer.of(["a red boat", "a boat"], length=4)
    ids, mask = tokens(["A boat!", "a green boat at sea"])
    assert ids.tolist() == [[2, 3, 4, 0], [2, 3, 1, 4]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert len(tokens) == 6
