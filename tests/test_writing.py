"""A file appears whole or not at all, and what went wrong is said as what it was."""

from pathlib import Path

import pytest

from vitrim.writing import whole_file, writing


@pytest.mark.parametrize("how", [whole_file, writing])
def test_a_sentence_of_the_block_stays_what_it_is(how, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^no pictures here$"), how(tmp_path / "new"):
        raise FileNotFoundError("no pictures here")
    assert not list(tmp_path.iterdir())


def test_a_file_that_the_block_cannot_read_is_the_one_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as refused, whole_file(tmp_path / "new"):
        (tmp_path / "list.txt").read_text()
    assert refused.value.filename == str(tmp_path / "list.txt")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"write '.*gone/new': No such"),
        whole_file(tmp_path / "gone/new"),
    ):
        pass
    with pytest.raises(OSError, match=r"cannot write '.*new': No space left"), whole_file(tmp_path / "new"):
        raise OSError(28, "No space left on device")
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(OSError, match=r"write '.*folder': Is a dir"),
        whole_file(tmp_path / "folder"),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
