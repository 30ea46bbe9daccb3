"""Verbs that read names, tables and lists do not wait for timm, and refusals of names not for torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import colour_folder, small_run

from vitrim.data.kinds import KIND_NAMES
from vitrim.data.spec import KINDS

SCRIPT = """
import sys
from vitrim.cli.main import main
code = main(sys.argv[1:])
slow = {"torch", "timm", "torchvision", "accelerate"} & set(sys.modules)
sys.stderr.write(f"code {code} " + " ".join(sorted(slow)))
"""


def imported(*arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command in a process of its own, and which slow packages it imported."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True, env=os.environ
    )
    words = done.stderr.rpartition("code ")[2].split()
    return int(words[0]), set(words[1:])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    return colour_folder(tmp_path_factory.mktemp("pictures") / "colours", per_class=6)


def test_lists_do_not_wait_for_timm() -> None:
    assert imported("list") == (0, {"torch"})


def test_data_does_not_wait_for_timm(pictures: str) -> None:
    assert imported("data", pictures) == (0, {"torch"})


def test_a_table_is_made_without_torch(pictures: str, tmp_path: Path) -> None:
    small_run(tmp_path / "runs" / "one", pictures, epochs=1)
    assert imported("table", str(tmp_path / "runs")) == (0, set())


def test_kinds_are_known_by_name_without_their_openers() -> None:
    assert list(KIND_NAMES) == list(KINDS)


@pytest.mark.parametrize("verb", ["train", "search", "evaluate", "data"])
def test_a_mistyped_kind_of_data_is_refused_before_anything_is_imported(verb: str) -> None:
    given = {"data": ["foldr:x"], "evaluate": ["run", "--data", "foldr:x"]}.get(verb, ["--data", "foldr:x"])
    assert imported(verb, *given) == (2, set())


def test_a_mistyped_recipe_is_refused_before_timm_is_imported() -> None:
    code, found = imported("train", "--recipe", "lorra")
    assert code == 2 and found <= {"torch"}
