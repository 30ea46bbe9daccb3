"""What a table's cells are taken for: certain, asked about, or as the user says."""

from pathlib import Path

import pytest
from PIL import Image
from small_tables import table_of_labels

from vitrim.data import describe, open_data
from vitrim.data.targets import guess, read_targets


def cells(*texts: str) -> list[tuple[str, ...]]:
    return [(text,) for text in texts]


CERTAIN = {
    "words": (cells("rose", "tulip", "rose"), "classify"),
    "whole numbers": (cells("3", "1", "2"), "classify"),
    "a hundred numbered classes": (cells(*[str(number) for number in range(100)] * 2), "classify"),
    "names with commas": (
        cells("African elephant, Loxodonta africana", "tiger cat", "goldfish, Carassius auratus"),
        "classify",
    ),
    "measured": (cells(*[f"{90 + 0.7 * place:.1f}" for place in range(30)]), "regress"),
    "bars": (cells("red|dark", "blue|dark", "red"), "multilabel"),
    "semicolons": (cells("red;dark", "blue;dark", "red"), "multilabel"),
    "lists of Python": (cells("['red', 'dark']", "[]"), "multilabel"),
    "lists of JSON": (cells('["red"]', '["red", "dark"]'), "multilabel"),
    "one-hot, several": ([("1", "1", "0"), ("0", "1", "0")], "multilabel"),
    "one-hot, none": ([("0", "0"), ("0", "1")], "multilabel"),
    "one-hot, always one": ([("1", "0"), ("0", "1")], "classify"),
    "two columns of numbers": ([("1.5", "3"), ("2.5", "4")], "regress"),
}


@pytest.mark.parametrize("case", CERTAIN)
def test_what_is_certain_is_guessed(case: str) -> None:
    given, task = CERTAIN[case]
    assert guess(given, "t.csv") == task


UNCERTAIN = {
    "a tree of classes": (
        cells("Plants|Rose", "Plants|Tulip", "Animals|Cat"),
        "look like several labels",
    ),
    "labels between commas": (
        cells("red, dark", "blue, dark", "red, light"),
        "look like several labels",
    ),
    "lists and words": (cells("['red']", "blue"), "1 of 2 labels are lists"),
    "sizes that repeat": (cells(*["1.5", "2.0", "2.5"] * 10), "something measured"),
    "ages": (cells(*[str(20 + 3 * place) for place in range(30)]), "something measured"),
    "columns of words": ([("red", "1"), ("blue", "0")], "these hold other words"),
}


@pytest.mark.parametrize("case", UNCERTAIN)
def test_what_is_not_certain_is_asked_about(case: str) -> None:
    given, sentence = UNCERTAIN[case]
    with pytest.raises(ValueError, match=sentence):
        guess(given, "t.csv")


@pytest.mark.parametrize("form", ["bars", "lists", "columns"])
def test_all_forms_of_several_labels_mean_the_same(tmp_path: Path, form: str) -> None:
    data = open_data(table_of_labels(tmp_path, 12, form))
    assert (data.task, data.classes) == ("multilabel", ("blue", "dark", "green", "red"))
    assert data.splits["train"].labels[:4] == ((0, 0, 0, 1), (1, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 1))
    assert "task=multilabel" in data.spec and open_data(data.spec).splits["train"].labels == (
        data.splits["train"].labels
    )
    assert "4 labels" in describe(data)


def test_asking_for_classes_gives_classes(tmp_path: Path) -> None:
    data = open_data(table_of_labels(tmp_path, 24) + "?task=classify")
    assert data.task == "classify" and "red|dark" in data.classes


def test_numbers_and_their_refusals() -> None:
    found = read_targets("regress", ["a", "b"], [("1", "-2e3"), ("0.5", "4")], ["line 2", "line 3"])
    assert found.values == ((1.0, -2000.0), (0.5, 4.0))
    for bad in ("nan", "inf", "1,5", "tall"):
        with pytest.raises(ValueError, match=f"line 3: '{bad}' is not a number"):
            read_targets("regress", ["a"], cells("1", bad), ["line 2", "line 3"])
    with pytest.raises(ValueError, match=r"line 3: 2 of the columns a, b are 1"):
        read_targets("classify", ["a", "b"], [("1", "0"), ("1", "1")], ["line 2", "line 3"])
    with pytest.raises(ValueError, match=r"line 2: .* is not a list of labels"):
        read_targets("multilabel", ["a"], cells("[1, {}]"), ["line 2"])
    with pytest.raises(ValueError, match=r"line 2: .* is not a list of labels"):
        read_targets("multilabel", ["a"], cells("[" * 5000 + "]" * 5000), ["line 2"])


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("path,a,b\n0.png,1.5,2\n", "", r"no label column, but numbers in a, b; .*label=a,b&task=regress"),
        ("path,a,b\n0.png,1,0\n", "?label=a,c", "has no column 'c'"),
        (
            "path,label\n0.png,1\n",
            "?task=rank",
            "csv option task=rank is none of classify",
        ),
        (
            "path,label\n0.png,\n1.png,a|b\n",
            "",
            "in the column 'label'; with task=multilabel that is",
        ),
        ("path,label\n0.png,1.5\n1.png,2\n", "?task=regress", "at least 3 images but there are 2"),
    ],
)
def test_tables_are_refused_in_a_sentence(tmp_path: Path, text: str, options: str, sentence: str) -> None:
    for name in "01":
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        open_data(f"csv:{tmp_path}/t.csv{options}")


def test_without_splits_all_pictures_are_split(tmp_path: Path) -> None:
    rows = ["path,label"]
    for index in range(20):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,{index / 7:.3f}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    data = open_data(f"csv:{tmp_path}/t.csv")
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 14, "val": 2, "trainval": 16, "test": 4,
    }  # fmt: skip
    assert data.task == "regress"
