"""Searches: which settings are tried, which is chosen, and that test images stay unseen."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from vitrim import METHODS, Adapter, EViT, LoRA
from vitrim.settings.deviations import deviations
from vitrim.settings.protocols import PROTOCOLS
from vitrim.settings.run_plan import Asked, settle_plan
from vitrim.settings.training import Training
from vitrim.sweep import search as searching
from vitrim.sweep.grid import Job
from vitrim.sweep.search import choose, search
from vitrim.sweep.varied import candidates, parse_over


def test_every_combination_is_tried() -> None:
    found = candidates([LoRA(rank=8), EViT()], {"rank": [2, 4], "keep": [0.5], "lr": [1e-3, 1e-2]})
    assert [candidate.name for candidate in found] == [
        "rank=2 keep=0.5 lr=0.001", "rank=2 keep=0.5 lr=0.01", "rank=4 keep=0.5 lr=0.001",
        "rank=4 keep=0.5 lr=0.01",
    ]  # fmt: skip
    assert found[3].methods == (LoRA(rank=4), EViT(keep=0.5))
    assert found[3].training == {"lr": 0.01}


def test_a_setting_that_several_methods_have_needs_its_owner() -> None:
    both = [LoRA(), Adapter()]
    with pytest.raises(ValueError, match=r"LoRA and Adapter have a setting scale; write LoRA\.scale"):
        candidates(both, {"scale": [0.1]})
    assert candidates(both, {"Adapter.scale": [0.1]})[0].methods == (LoRA(), Adapter(scale=0.1))


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({}, "nothing to search over"),
        ({"rank": []}, "no values for rank"),
        ({"rank": [2, 2]}, "rank is to be tried with 2 twice"),
        ({"ranks": [2]}, "did you mean rank"),
        ({"Adapter.rank": [2]}, "no setting 'Adapter.rank' in LoRA"),
        ({"rank": [0]}, "rank"),
    ],
)
def test_refused_before_anything_starts(over: dict[str, Sequence[object]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        candidates([LoRA()], over)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("scale=0.1,1", [0.1, 1]),
        ("lr=1e-3", [1e-3]),
        ("at=(3,6),(4,8)", [(3, 6), (4, 8)]),
        ("schedule=cosine, constant", ["cosine", "constant"]),
    ],
)
def test_values_on_the_command_line(text: str, values: list[object]) -> None:
    assert parse_over(text) == (text.partition("=")[0], values)


@pytest.mark.parametrize("text", ["scale", "scale=", "=1"])
def test_unreadable_values(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=VALUE"):
        parse_over(text)


def test_methods_of_one_kind_in_different_blocks_are_varied_together() -> None:
    methods = [LoRA(rank=2, at=(0,)), LoRA(rank=4, at=(1,))]
    (found,) = candidates(methods, {"scale": [0.5]})
    assert found.methods == (LoRA(rank=2, scale=0.5, at=(0,)), LoRA(rank=4, scale=0.5, at=(1,)))


def test_blocks_are_those_of_the_reducer_where_nothing_else_is_said() -> None:
    (found,) = candidates([LoRA(), EViT()], {"at": [(4, 8)]})
    assert found.methods == (LoRA(), EViT(at=(4, 8)))
    (found,) = candidates([LoRA(), EViT()], {"LoRA.at": [(4, 8)]})
    assert found.methods == (LoRA(at=(4, 8)), EViT())


def row(accuracy: float | None, trained: int = 10) -> dict[str, Any]:
    status = "finished" if accuracy is not None else "failed"
    return {"accuracy": accuracy, "trained": trained, "status": status, "failure": "too high"}


@pytest.mark.parametrize(
    ("rows", "rates", "chosen"),
    [
        ([row(0.5), row(0.7), row(0.6)], [1, 2, 3], 1),
        ([row(0.7), row(0.7), row(0.7)], [3e-3, 1e-3, 2e-3], 1),  # VPT: the smaller learning rate
        (
            [row(0.7, 30), row(0.7, 20), row(0.7, 20)],
            [1e-3, 1e-3, 1e-3],
            1,
        ),  # then fewer parameters, the first
        ([row(None), row(0.1), row(None)], [1, 2, 3], 1),
    ],
)
def test_the_choice(rows: list[dict[str, Any]], rates: list[float], chosen: int) -> None:
    found = candidates([LoRA()], {"rank": [1, 2, 3]})
    assert choose(found, rows, rates) is found[chosen]


def test_the_search_sees_train_and_val_and_the_final_runs_see_test_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Job] = []

    def make_runs(jobs: Sequence[Job], folder: Path, **how: Any) -> list[dict[str, Any]]:
        folder.mkdir(parents=True)
        asked.extend(jobs)
        return [
            row(0.2 * (index % 2)) | {"recipe": job.name, "seed": job.seed} for index, job in enumerate(jobs)
        ]

    monkeypatch.setattr(searching, "make_runs", make_runs)
    found = search(
        "digits",
        {"rank": [2, 4]},
        tmp_path,
        methods=["LoRA()"],
        training={"epochs": 2},
        final=True,
        seeds=[5, 6],
    )
    assert found.best.methods == (LoRA(rank=4),)
    plans = [settle_plan(job.asked) for job in asked]
    splits = [(plan.training.train_split, plan.training.test_split) for plan in plans]
    assert splits == [("train", "val")] * 2 + [("trainval", None)] * 2
    assert [plan.training.seed for plan in plans] == [5, 5, 5, 6]
    assert {plan.training.epochs for plan in plans} == {2}
    assert [plan.methods for plan in plans[2:]] == [(repr(LoRA(rank=4)),)] * 2
    assert '"rank": 4' in (tmp_path / "chosen.json").read_text()


def test_without_values_the_protocols_own_grid_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def make_runs(jobs: Sequence[Job], folder: Path, **how: Any) -> list[dict[str, Any]]:
        folder.mkdir(parents=True)
        tried.extend(job.name for job in jobs)
        return [row(0.5) | {"recipe": job.name} for job in jobs]

    monkeypatch.setattr(searching, "make_runs", make_runs)
    name = next(name for name, protocol in PROTOCOLS.items() if set(protocol.searched) == {"lr"})
    search("digits", {}, tmp_path, methods=["LoRA()"], protocol=name)
    assert tried == [f"lr={value!r}" for value in PROTOCOLS[name].searched["lr"]]


def test_data_without_val_and_settings_that_the_search_decides(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a search decides train_split itself"):
        search("digits", {"rank": [2]}, tmp_path, recipe="lora", training={"train_split": "train"})
    with pytest.raises(ValueError, match="seeds must hold"):
        search("digits", {"rank": [2]}, tmp_path, recipe="lora", seeds=[])
    with pytest.raises(ValueError, match="a search decides seed itself"):
        search("digits", {"seed": [2, 3]}, tmp_path, recipe="lora")
    with pytest.raises(ValueError, match="lr is given and searched over as well"):
        search("digits", {"lr": [1e-3]}, tmp_path, recipe="lora", training={"lr": 0.1})
    with pytest.raises(ValueError, match="looks at no test images, so select cannot be best-on-test"):
        search("digits", {"rank": [2]}, tmp_path, recipe="lora", training={"select": "best-on-test"})
    with pytest.raises(ValueError, match="the final runs would be refused: patience=3 needs validation"):
        search("digits", {"rank": [2]}, tmp_path, recipe="lora", training={"patience": 3}, final=True)


def test_candidates_start_from_the_values_of_the_task() -> None:
    asked = Asked(recipe="fact-tk", protocol="vtab/fact-tk", data="vtab:clevr_count")
    each = candidates(searching.methods_of(asked), {"lr": [1e-3]})[0]
    plan = settle_plan(searching.ask(asked, each, {}))
    assert [found["setting"] for found in deviations(plan)] == []


def test_settings_of_training_do_not_take_the_names_of_settings_of_methods() -> None:
    """Else "scale" in a search would silently be another thing than the methods' own."""
    of_methods = {field.name for method in METHODS.values() for field in fields(method)}
    shared = of_methods & {field.name for field in fields(Training)}
    assert shared == {"schedule", "seed"}  # whoever means these writes PYRA.schedule
