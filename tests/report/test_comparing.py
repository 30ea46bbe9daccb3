"""Two runs beside each other: what is said about their difference, and what is not."""

from pathlib import Path
from typing import Any

import pytest
from small_runs import colour_folder, small_run

from vitrim.report.comparing import difference_in_words, interval, paired, unequal, unequal_in_words
from vitrim.report.summary import in_words
from vitrim.runs.folder import RunFolder
from vitrim.runs.tested import FILE, TestedPictures, read_tested, write_tested


def seen(*right: int, pictures: str = "same") -> TestedPictures:
    return TestedPictures("test", pictures, tuple(map(bool, right)))


def result(top1: float, images: int = 100) -> dict[str, Any]:
    return {"results": {"top1": top1, "images": images, "split": "test"}, "data": {"spec": "folder:some"}}


def test_wilson_as_published() -> None:
    """Wilson's interval by hand: 8 of 10 gives 0.490 to 0.943."""
    assert interval(0.8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert interval(1.0, 10)[1] == 1.0


def test_mcnemar_by_hand() -> None:
    """Of 6 pictures right in one alone, all in the first: 2 * (1/2)^6."""
    found = paired(seen(*[1] * 6, 1, 0), seen(*[0] * 6, 1, 0))
    assert found is not None
    assert (found.images, found.only_first, found.only_second) == (8, 6, 0)
    assert found.p == pytest.approx(2 / 2**6)
    assert paired(seen(1, 0), seen(1, 0)).p == 1.0  # type: ignore[union-attr]


def test_a_difference_within_the_noise_is_no_gain() -> None:
    found = paired(seen(1, 1, 1, 0, 0), seen(1, 0, 0, 1, 0))
    said = difference_in_words(("lora", "linear"), (result(0.6), result(0.4)), found)
    assert "within the noise" in said
    assert "better" not in said


def test_a_difference_beyond_it_says_which_is_better() -> None:
    ours, theirs = seen(*[1] * 30, *[0] * 70), seen(*[0] * 30, *[0] * 70)
    for first, second, better in ((ours, theirs, "lora"), (theirs, ours, "linear")):
        shares = (sum(first.right) / 100, sum(second.right) / 100)
        found = paired(first, second)
        said = difference_in_words(("lora", "linear"), (result(shares[0]), result(shares[1])), found)
        assert f"{better} is better by 30.0 points, more than noise" in said


@pytest.mark.parametrize("other", [None, seen(1, 0, pictures="others")])
def test_without_the_same_pictures_nothing_is_said_beyond_the_intervals(other: TestedPictures | None) -> None:
    assert paired(seen(1, 0), other) is None
    said = difference_in_words(("a", "b"), (result(0.9), result(0.5)), None)
    assert "nothing is said" in said
    assert "better" not in said


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    top = tmp_path_factory.mktemp("runs")
    data = colour_folder(top / "colours")
    small_run(top / "one", data, epochs=1)
    small_run(top / "two", data, epochs=2, lr=3e-2, methods=("LoRA(rank=2)",))
    return top / "one", top / "two"


def test_a_run_keeps_what_was_right_picture_by_picture(folders: tuple[Path, Path]) -> None:
    first, second = (read_tested(folder) for folder in folders)
    assert first is not None
    assert second is not None
    assert first.pictures == second.pictures
    results = RunFolder(folders[0]).record()["results"]
    assert len(first.right) == results["images"]
    assert sum(first.right) / len(first.right) == pytest.approx(results["top1"])


def test_every_other_setting_that_differs_is_told(folders: tuple[Path, Path]) -> None:
    records = [RunFolder(folder).record() for folder in folders]
    found = {name: values for name, *values in unequal(*records)}
    assert found == {"epochs": [1, 2], "lr": [1e-2, 3e-2]}
    assert "lr 0.01 against 0.03" in unequal_in_words(("a", "b"), unequal(*records))
    assert unequal(records[0], records[0]) == []


def test_old_runs_without_pictures_are_still_compared(folders: tuple[Path, Path], tmp_path: Path) -> None:
    records = [RunFolder(folder).record() for folder in folders]
    assert read_tested(tmp_path) is None
    said = " ".join(in_words(records, [read_tested(folders[0]), None]))
    assert "nothing is said" in said
    assert said.count("95 % interval") == 2


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"images": 3}', '{"split": 1, "images": 9, "pictures": "", "right": "AA=="}']
)
def test_a_damaged_file_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match="is damaged and cannot be read"):
        read_tested(tmp_path)


def test_written_and_read_again(tmp_path: Path) -> None:
    told = TestedPictures("val", "digest", tuple(index % 3 == 0 for index in range(1001)))
    write_tested(tmp_path, told)
    assert read_tested(tmp_path) == told
    assert (tmp_path / FILE).stat().st_size < 400
