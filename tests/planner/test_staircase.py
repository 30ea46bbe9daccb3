"""Schedules at the steps: measured once, kept, found at the edges of a staircase, never believed blindly."""

import json
import re
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import images, toy

from vitrim import EViT, compose
from vitrim.cli.main import main
from vitrim.planner import kept_curves, schedule, staircase
from vitrim.planner.at_steps import AtSteps
from vitrim.planner.block_parts import Parts, block_macs
from vitrim.planner.kept_curves import cache_folder, curve_of
from vitrim.planner.schedule import schedules, table, timed
from vitrim.planner.search import Search
from vitrim.planner.staircase import Curve, in_turns, measure, steep_intervals
from vitrim.training import budgets

TILE, DEPTH = 12, 7  # tokens of a tile of the pretended kernels


def composed(methods, depth=DEPTH):
    return compose(toy("vit", depth=depth, dtype=torch.float32), *methods).eval()


class Stepping:
    """A stopwatch that pretends: a block takes as many milliseconds as its tokens fill tiles."""

    def __init__(self):
        self.asked = []

    def __call__(self, calls):
        self.asked.append(list(calls))
        return {point: ceil(point[1] / TILE) + 0.5 for point in calls}


@pytest.fixture(scope="module")
def curve():
    return measure(composed(()), batch_size=2, timer=Stepping())


@pytest.fixture(scope="module")
def search():
    return Search(composed, batches())


def batches():
    return [(images(composed(()), batch=6), torch.arange(6) % 5)]


@pytest.fixture(scope="module")
def found(search, curve):
    """By a share of the operations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "Search", lambda compose, images: search)
        return schedules(composed, batches(), 0.85, curve)


def test_steps_are_found_between_neighbours() -> None:
    stopwatch = Stepping()
    model = compose(toy("vit", depth=4, dtype=torch.float32, img_size=64)).eval()  # 256 patches, every 5th
    curve = measure(model, 2, stopwatch)
    assert len(stopwatch.asked) > 1  # it looked again, more closely
    points = list(curve.parts["mlp"])
    steps = steep_intervals(points)
    edges = list(range(TILE, 256, TILE))
    assert [low for low, high in steps if high - low == 1] == edges
    assert curve.treads() == curve.with_slopes() == [256, *edges[::-1]]


def test_a_line_has_no_steps() -> None:
    curve = measure(composed(()), 1, lambda calls: {point: 1 + 0.1 * point[1] for point in calls})
    assert steep_intervals(curve.parts["attention"]) == []
    assert len(curve.treads()) > 30
    curve = measure(
        compose(toy("vit", depth=4, img_size=64)), 1, lambda calls: {at: 1 + at[1] for at in calls}
    )
    assert curve.treads()[:3] == [256, 251, 246] and curve.with_slopes() == [*range(256, 0, -1)]


def test_the_planner_lands_on_the_edges_of_steps(found, search) -> None:
    steps, greedy = found[:2]
    assert [steps.name, greedy.name] == ["at steps", "greedy"]
    assert {each.name for each in found} >= {"dense"} and all(each.share <= 0.851 for each in found)
    counts = _counts(steps.method)
    assert counts and all(count % TILE == 0 for count in counts)
    assert not all(count % TILE == 0 for count in _counts(greedy.method))
    assert steps.milliseconds <= greedy.milliseconds
    assert set(steps.method.at) <= set(search.blocks)
    assert all(after - before >= 2 for before, after in pairwise(steps.method.at))


def _counts(method):
    """Patch tokens that leave the blocks that reduce."""
    states = []
    model = composed((method,))
    model.pass_blocks(*model.begin(images(model, batch=1)), range(DEPTH - 1), None, states)
    return {state.count for state in states} - {64}


def test_a_budget_of_time_is_met_by_the_most_that_it_allows(search, curve) -> None:
    whole = float(curve.milliseconds(np.full((1, DEPTH), 64))[0])
    for share in (0.95, 0.9, 0.8):
        method = AtSteps(
            search, curve, lambda tokens, most=share: curve.milliseconds(tokens) <= most * whole
        ).best()
        rows = search.tokens([dict(zip(method.at, method.shares(), strict=True))])
        assert curve.milliseconds(rows)[0] <= share * whole
        assert all(count == 64 or count % TILE == 0 for count in rows[0])
        lost = search.lost({block: (rows[0][block] - 1) / 64 for block in method.at})
        for block in method.at:  # one step more anywhere is too much, or saves nothing
            more = rows.copy()
            more[0, block:] = np.maximum(more[0, block:], min(64, rows[0][block] + TILE))
            assert curve.milliseconds(more)[0] > share * whole or lost < 0.01
    with pytest.raises(ValueError, match="no schedule comes down to that"):
        AtSteps(search, curve, lambda tokens: np.zeros(len(tokens), dtype=bool)).best()
    with pytest.raises(ValueError, match="needs a budget"):
        schedule._within(search, None, curve, None)


def test_shares_and_times_may_be_limited_at_once(search, curve) -> None:
    rows = np.array([[64] * DEPTH, [48] * DEPTH, [24] * DEPTH])
    macs, times = search.costs(rows), curve.milliseconds(rows)
    for most, longest in ((macs[1], times[2]), (macs[2], times[1])):
        assert list(schedule._within(search, most, curve, longest)(rows)) == [False, False, True]
    assert list(schedule._within(search, macs[1], None, None)(rows)) == [False, True, True]


def test_foretold_stands_beside_measured(found, curve, monkeypatch) -> None:
    monkeypatch.setattr(schedule, "ROUNDS", 3)
    shown = timed(composed, found[:1], curve, torch.device("cpu"))
    assert [each.name for each in shown] == ["plain", "at steps"] and all(each.measured > 0 for each in shown)
    lines = table(shown).splitlines()
    assert "foretold" in lines[0] and re.search(r"[+-]\d+\.\d %", lines[1])
    assert f"{100 * (shown[1].milliseconds / shown[1].measured - 1):+.1f} %" in lines[2]


def test_parts_of_a_block_are_what_a_pass_computes() -> None:
    model = composed(())
    batch = images(model, batch=2)
    state, places = model.begin(batch)
    whole = model.pass_blocks(state, places, range(1), None).tokens
    attention = Parts(model, batch)(("attention", 64))
    entered, read = attention()
    assert torch.equal(model.stages[0].leave(model.vit.blocks[0], entered, read).tokens, whole)
    assert Parts(model, batch)(("mlp", 10))().count == 10
    assert Parts(model, batch)(("reducing", 40))()[0].count == 29  # 28 and the fused one
    assert not any(stage.reducer for stage in model.stages)
    macs = block_macs(model, [16, 32, 64])
    assert macs[0] < macs[1] / 2 < macs[2] / 4  # attention is of second degree
    last = Parts(model, batch)(("last", 64))()
    assert last.tokens.shape[1] == model.rows_read() and Parts(model, batch)(("outside", 0))().shape[0] == 2


def test_times_of_a_busy_round_do_not_tilt_the_curve(monkeypatch) -> None:
    from vitrim.measuring.bench import Turn

    pace = [1, 1, 9, 1, 1, 1, 5]  # how much slower a round was
    turns = {("mlp", n): [Turn(n * slow * 1e-3, n * slow * 1e-3) for slow in pace] for n in (1, 2, 4)}
    monkeypatch.setattr(staircase, "turns_of", lambda calls, rounds, device: turns)
    assert in_turns({}, torch.device("cpu")) == pytest.approx({("mlp", n): n for n in (1, 2, 4)})


def test_it_is_measured_once_for_a_machine_and_a_model(tmp_path, monkeypatch) -> None:
    model, stopwatch, said = composed(()), Stepping(), []
    first = curve_of(model, 2, tmp_path, stopwatch, said.append)
    asked = len(stopwatch.asked)
    assert asked and "once" in said[0]
    again = curve_of(model, 2, tmp_path, stopwatch, said.append)
    assert again == first and len(stopwatch.asked) == asked and len(said) == 1
    curve_of(model, 4, tmp_path, stopwatch)  # another batch
    monkeypatch.setattr(kept_curves, "cpu_name", lambda: "another processor")
    curve_of(model, 2, tmp_path, stopwatch)
    curve_of(composed((), depth=5), 2, tmp_path, stopwatch)
    assert len(list(tmp_path.iterdir())) == 4 and len(stopwatch.asked) == 4 * asked


def test_a_damaged_file_is_said_in_a_sentence_and_measured_anew(tmp_path) -> None:
    model, stopwatch = composed(()), Stepping()
    right = curve_of(model, 2, tmp_path, stopwatch)
    (file,) = tmp_path.iterdir()
    whole = json.loads(file.read_text())
    other_key = {**whole, "key": {**whole["key"], "threads": 77}}
    negative = {**whole, "parts": {**whole["parts"], "outside": [[0, -1.0]]}}
    short = {**whole, "parts": {**whole["parts"], "mlp": whole["parts"]["mlp"][:3]}}
    lacking = {**whole, "parts": {"mlp": whole["parts"]["mlp"]}}
    odd = [json.dumps(each) for each in (other_key, negative, short, lacking)]
    for content in ("", "{", file.read_text()[:100], *odd):
        file.write_text(content)
        said: list[str] = []
        assert curve_of(model, 2, tmp_path, stopwatch, said.append) == right
        assert "is damaged and cannot be read" in said[0] and "measured anew" in said[0], content
        assert "\n" not in said[0] and json.loads(file.read_text())["parts"] == whole["parts"]


def test_the_cache_lies_where_the_system_says(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "vitrim" / "staircases"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder() == Path.home() / ".cache" / "vitrim" / "staircases"


def test_the_command_shows_and_draws_it(tmp_path, monkeypatch, capsys) -> None:
    def stand_in(compose, images, share, curve, milliseconds):
        assert share == 0.9 and milliseconds == 5 and curve.batch_size == 1
        return [schedule.Placement("at steps", EViT(keep=0.5, at=(3,)), 0.7, 0.1, 4.0)]

    monkeypatch.setattr(kept_curves, "measure", lambda model, batch, timer: measure(model, batch, Stepping()))
    monkeypatch.setattr(schedule, "ROUNDS", 3)
    monkeypatch.setattr(schedule, "schedules", stand_in)
    monkeypatch.setattr(budgets, "calibration_batches", lambda model, source: [(None, [0, 1])])
    kind = ["plan", "--schedule", "--budget=0.9", "--model=vitrim_tiny_patch8_96", "--image_size=48"]
    asked = [*kind, "--budget=5ms", f"--cache={tmp_path / 'kept'}", f"--plot={tmp_path / 'steps.png'}"]
    assert main([*asked, "--threads=1"]) == 0
    shown = capsys.readouterr()
    assert all(words in shown.out for words in ("steps: ", "at steps", "foretold", "measured", "wrote "))
    assert "kept in" in shown.err and (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")
    assert main([*kind, "--plot=x.png"]) == 2
    assert "no meaning for a schedule without --measure" in capsys.readouterr().err
    assert main([*kind, "--budget=1MB"]) == 2
    assert "a share of the plain operations such as 0.6, as milliseconds" in capsys.readouterr().err
    assert main(["plan", "--budget=0.9", "--model=test_vit", "--cache=x"]) == 2
    assert "--cache has no meaning for proposals" in capsys.readouterr().err


def test_a_curve_adds_up() -> None:
    parts = {
        "attention": ((1, 1.0), (3, 3.0)),
        "mlp": ((1, 10.0), (3, 30.0)),
        "reducing": ((1, 1.5), (3, 3.5)),
        "last": ((1, 100.0), (3, 300.0)),
        "outside": ((0, 1000.0),),
    }
    curve = Curve(parts, batch_size=2)
    # blocks: 3 enter, 2 are left and leave; 2 and 2; the last one reads 2
    whole = 3 + 0.5 + 20 + 2 + 20 + 200 + 1000
    assert curve.milliseconds(np.array([[2, 2, 2]]))[0] == pytest.approx(whole / 2)
