"""A checkpoint that was damaged or forged is a sentence when its run is resumed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import colour_folder

from vitrim.cli.main import main
from vitrim.runs.checkpoint_files import read_state

STOPPED = Path(__file__).parents[1] / "data_of_versions" / "2026-11-21" / "stopped"
ODD = (None, "x", 7, -1, True, [], {}, 10**400, float("nan"), torch.zeros(2), [[1]], {"a": None})
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    return read_state(STOPPED / "checkpoints" / "epoch-00001.pt")


def test_every_field_has_its_type(state: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "epoch-00001.pt"
    refused = 0
    for name in state:
        for odd in ODD:
            torch.save({**state, name: odd}, file)
            try:
                read_state(file)
            except ValueError as error:
                refused += 1
                assert name in str(error) and "\n" not in str(error)
        torch.save({key: value for key, value in state.items() if key != name}, file)
        with pytest.raises(ValueError, match=f"lacks {name}"):
            read_state(file)
    assert refused > 50


def first_weight(state: dict[str, Any]) -> str:
    return next(iter(state["weights"]))


def put_weight(state: dict[str, Any], value: Any) -> None:
    state["weights"][first_weight(state)] = value


CHANGES: dict[str, tuple[Change, str]] = {
    "weight of another shape": (lambda state: put_weight(state, torch.zeros(3, 5, 7)), "has shape (3, 5, 7)"),
    "weight without numbers": (lambda state: put_weight(state, torch.zeros(2, device="meta")), "not a plain"),
    "sparse weight": (lambda state: put_weight(state, torch.eye(2).to_sparse()), "not a plain tensor"),
    "no groups": (lambda state: state["optimizer"].clear(), "optimizer.param_groups"),
    "no rate": (lambda state: state["optimizer"]["param_groups"][0].pop("lr"), "differs in lr"),
    "text for a rate": (lambda state: state["optimizer"]["param_groups"][0].update(lr="x"), "lr is 'x'"),
    "memory of nothing": (lambda state: state["optimizer"]["state"].update({10**6: {}}), "state.1000000"),
    "memory of another shape": (
        lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(3, 5, 7)),
        "state.0 does not fit",
    ),
    "memory with a gap": (lambda state: state["optimizer"]["state"][0].pop("exp_avg"), "holds less"),
    "newer": (lambda state: state.update(format=2), "newer vitrim (format 2"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    colour_folder(folder / "colours", per_class=6)
    shutil.copytree(STOPPED, folder / "stopped")
    record = folder / "stopped" / "run.json"
    record.write_text(record.read_text().replace("ROOT", str(folder)))
    return folder / "stopped"


@pytest.mark.parametrize("case", CHANGES)
def test_resuming_says_what_is_wrong(place: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, words = CHANGES[case]
    changed = read_state(STOPPED / "checkpoints" / "epoch-00001.pt")
    change(changed)
    torch.save(changed, place / "checkpoints" / "epoch-00001.pt")
    assert main(["train", "--resume", "--cpu", "--quiet", "--out", str(place)]) == 2
    said = capsys.readouterr().err
    assert words in said and "vitrim failed" not in said
    assert said.strip().rpartition("vitrim: ")[2].count("\n") == 0
