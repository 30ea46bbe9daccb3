"""A run on disk stands for a line of a sweep only if everything that decides it is the same."""

import sys
from pathlib import Path
from typing import Any

import pytest
from forked_python import python
from small_runs import colour_folder

from vitrim.settings.run_plan import settle_plan
from vitrim.sweep.checking import check_same
from vitrim.sweep.file import make_sweep
from vitrim.sweep.grid import jobs
from vitrim.sweep.running import sweep

TRAINING = {"epochs": 1, "batch_size": 8, "lr": 0.01}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    top = tmp_path_factory.mktemp("sweep")
    colour_folder(top / "colours", per_class=8)
    content = {
        "data": ["folder:colours"], "root": str(top), "recipes": ["linear"], "seeds": [0], "image_size": 32,
        "training": TRAINING, "out": str(top / "out"),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "executable", python())
        sweep(content, cpu=True, quiet=True)
    return content


def check(content: dict[str, Any]) -> None:
    (job,) = jobs(make_sweep(content), Path(content["out"]), True)
    check_same(job, settle_plan(job.asked))


def test_the_same_is_the_same(made: dict[str, Any]) -> None:
    check(made)


@pytest.mark.parametrize("missing", ["image_size", "training", "epochs", "lr", "batch_size"])
def test_what_is_no_longer_asked_for_is_noticed(made: dict[str, Any], missing: str) -> None:
    fewer = {name: value for name, value in made.items() if name != missing}
    fewer |= {"training": {name: value for name, value in TRAINING.items() if name != missing}}
    if missing == "training":
        del fewer["training"]
    with pytest.raises(ValueError, match="holds another run"):
        check(fewer)


@pytest.mark.parametrize(
    "change", [{"root": "/elsewhere"}, {"training": {**TRAINING, "train_split": "trainval"}}]
)
def test_what_is_asked_for_otherwise_is_noticed(made: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"started with {'root' if 'root' in change else 'train_split'}="):
        check({**made, **change})
