"""Verbs that read names, tables and lists do not wait for timm, and refusals of names not for torch."""

import json
import subprocess
import sys

import pytest
from small_runs import colour_folder, small_run

from vitrim.data.kinds import KIND_NAMES
from vitrim.data.spec import KINDS

SCRIPT = """
import json, sys
from vitrim.cli.main import main
found = {}
for name, arguments in json.loads(sys.argv[1]).items():
    code = main(arguments)
    found[name] = (code, sorted({"torch", "timm", "torchvision", "accelerate"} & set(sys.modules)))
sys.stderr.write("found " + json.dumps(found))
"""
VERBS = {"train": [], "search": [], "evaluate": ["run"], "data": None}  # and what comes before --data


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, set[str]]]:
    """The exit code of every command, and which slow packages were imported after it. In one process, those
    that shall import none of them first: what a package's import costs is paid once.
    """
    place = tmp_path_factory.mktemp("start")
    pictures = colour_folder(place / "colours", per_class=6)
    small_run(place / "runs" / "one", pictures, epochs=1)
    mistyped = {
        f"mistyped kind, {verb}": [verb, *([] if given is None else [*given, "--data"]), "foldr:x"]
        for verb, given in VERBS.items()
    }
    commands = {
        **mistyped,
        "table": ["table", str(place / "runs")],
        "list": ["list"],
        "data": ["data", pictures],
        "mistyped recipe": ["train", "--recipe", "lorra"],
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stderr.rpartition("found ")[2])
    return {name: (code, set(slow)) for name, (code, slow) in found.items()}


Imported = dict[str, tuple[int, set[str]]]


def test_lists_do_not_wait_for_timm(imported: Imported) -> None:
    assert imported["list"] == (0, {"torch"})


def test_data_does_not_wait_for_timm(imported: Imported) -> None:
    assert imported["data"] == (0, {"torch"})


def test_a_table_is_made_without_torch(imported: Imported) -> None:
    assert imported["table"] == (0, set())


def test_kinds_are_known_by_name_without_their_openers() -> None:
    assert list(KIND_NAMES) == list(KINDS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_mistyped_kind_of_data_is_refused_before_anything_is_imported(
    verb: str, imported: Imported
) -> None:
    assert imported[f"mistyped kind, {verb}"] == (2, set())


def test_a_mistyped_recipe_is_refused_before_timm_is_imported(imported: Imported) -> None:
    code, found = imported["mistyped recipe"]
    assert code == 2 and found <= {"torch"}
