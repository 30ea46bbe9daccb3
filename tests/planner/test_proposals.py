"""Proposals within a budget: every figure is what the library itself says of the composition."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrim import (
    REDUCERS,
    TUNERS,
    Adapter,
    Bipartite,
    DenseAdapter,
    EViT,
    compose,
    costs,
    parse_method,
    propose,
    save,
)
from vitrim.backbones.shapes import shapes_only
from vitrim.cli.main import main
from vitrim.measuring.costs import paper_macs
from vitrim.network.copying import copied
from vitrim.planner.budget import Budget, parse_budget
from vitrim.planner.counted import Counted
from vitrim.planner.ladders import first_within, reducer_ladders, short, tuner_ladders
from vitrim.planner.published import printed_rows, published_for

pytestmark = pytest.mark.usefixtures("short_measuring")

SMALL = "test_vit"  # of timm: 6 blocks, 100 patches
BARE = compose(SMALL)
FEW = {"tuners": ("LoRA", "Adapter"), "reducers": ("EViT", "Pool")}


@pytest.mark.parametrize(
    ("texts", "budget"),
    [
        ([0.6], Budget(share=0.6)),
        (["60%"], Budget(share=0.6)),
        (["12 ms", "1.5MB"], Budget(milliseconds=12, megabytes=1.5)),
        (["300kB", "1"], Budget(megabytes=0.3, share=1.0)),
    ],
)
def test_budgets_are_read(texts: list[str], budget: Budget) -> None:
    assert parse_budget(texts) == budget


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no budget was given"),
        (["fast"], "'fast' is not understood; give a share"),
        (["-0.5"], "not understood"),
        (["0"], "not understood"),
        (["nan"], "not understood"),
        (["1.5"], "above the plain backbone"),
        (["0.6", "70%"], "names share twice"),
        (["3 hours"], "not understood"),
    ],
)
def test_other_budgets_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_budget(texts)


@given(st.lists(st.integers(0, 99), min_size=1, unique=True).map(sorted), st.integers(-1, 100))
def test_first_step_within_is_the_first(ladder: list[int], least: int) -> None:
    expected = next((step for step in ladder if step >= least), None)
    assert first_within(ladder, lambda step: step >= least) == expected


@pytest.mark.parametrize("name", [name for name, ladder in reducer_ladders(BARE).items() if len(ladder) > 1])
def test_ladders_remove_more_at_every_step(name: str) -> None:
    ladder = reducer_ladders(BARE)[name]
    with shapes_only():
        counted = [
            paper_macs(compose(copied(BARE.vit), step)) for step in ladder[:: max(1, len(ladder) // 4)]
        ]
    assert counted == sorted(counted, reverse=True)
    assert counted[-1] < counted[0]


def test_short_texts_mean_the_same() -> None:
    for ladder in (*reducer_ladders(BARE).values(), *tuner_ladders(BARE).values()):
        assert all(parse_method(short(method)) == method for method in ladder)


def test_proposals_stay_within_both_budgets(tmp_path: Path) -> None:
    found = propose(SMALL, 0.7, "0.1MB", classes=7, **FEW).found
    assert len(found) == 4
    plain = costs(compose(SMALL)).macs_paper
    for proposal in found:
        model = compose(SMALL, *proposal.methods, num_classes=7)
        assert proposal.share == pytest.approx(costs(model).macs_paper / plain)
        assert proposal.share <= 0.7
        save(model, tmp_path / "task.safetensors", classes=tuple("abcdefg"))
        size = (tmp_path / "task.safetensors").stat().st_size
        assert abs(proposal.megabytes - size / 1e6) < 0.001
        assert proposal.megabytes <= 0.1


def test_proposals_take_what_the_budget_allows() -> None:
    """The next gentler setting of each would be above it."""
    limit = 0.7 * costs(compose(SMALL)).macs_paper
    for proposal in propose(SMALL, 0.7, classes=7, **FEW).found:
        tuner, reducer = proposal.methods
        ladder = reducer_ladders(BARE)[type(reducer).__name__]
        step = ladder.index(reducer)
        if step:
            assert costs(compose(SMALL, tuner, ladder[step - 1])).macs_paper > limit


def test_every_method_can_be_planned_with() -> None:
    assert set(tuner_ladders(BARE)) == {name for name, kind in TUNERS.items() if kind.proposed} and set(
        reducer_ladders(BARE)
    ) == set(REDUCERS)
    assert all((*tuner_ladders(BARE).values(), *reducer_ladders(BARE).values()))
    found = propose(SMALL, "0.2MB", classes=2, reducers=["LTMP"], tuners=["BitFit", "VPT"]).found
    assert {type(method).__name__ for each in found for method in each.methods} == {"LTMP", "BitFit", "VPT"}
    refused = propose(SMALL, 0.9, reducers=["LTMP", "Pool"], tuners=["LoRA"]).left_out
    assert "depends on the image" in refused["LTMP"]


def test_gains_by_two_kinds_of_mean_are_not_set_in_one_order() -> None:
    ticks: list[tuple[int, int]] = []
    chosen = {"tuners": ["LoRA", "Adapter", "DenseAdapter", "VPT"], "reducers": ["EViT", "Bipartite"]}
    found = propose(SMALL, 1.0, tick=lambda done, of: ticks.append((done, of)), **chosen).found
    kinds = [proposal.published.kind if proposal.published else "" for proposal in found]
    assert kinds == sorted(kinds, key=list(dict.fromkeys(kinds)).index) and len(set(kinds)) == 3
    for kind in set(kinds) - {""}:
        gains = [each.published.gain for each in found if each.published and each.published.kind == kind]
        assert gains == sorted(gains, reverse=True)
    assert ticks == [(done, 12) for done in range(12)]


def test_a_generous_time_needs_no_reduction() -> None:
    found = propose(SMALL, "60000ms", classes=7, tuners=["LoRA"], reducers=["Pool"]).found
    assert {len(proposal.methods) for proposal in found} == {1, 2}
    assert all(0 < proposal.milliseconds < 60_000 for proposal in found)


def test_a_budget_in_milliseconds_is_met() -> None:
    counted = Counted(SMALL, classes=7, image_size=None)

    class Slow:
        """A machine on which time goes with the square root of the operations."""

        plain_milliseconds = 10.0
        least_milliseconds = 1.0

        def milliseconds(self, methods: tuple) -> float:
            return 10.0 * counted.share(methods) ** 0.5

    found = propose(SMALL, "9ms", classes=7, stopwatch=Slow(), **FEW).found
    assert {type(proposal.methods[1]).__name__ for proposal in found} == {"EViT", "Pool"}
    assert all(proposal.milliseconds <= 9 and proposal.share <= 0.81 for proposal in found)
    assert max(proposal.milliseconds for proposal in found) > 8.5


@pytest.mark.parametrize(
    ("budget", "words"),
    [("0.0001", "leave 0.3"), ("0.001ms", "measured takes"), ("0.001MB", "smallest file has 0.0")],
)
def test_a_budget_nothing_meets_is_refused(budget: str, words: str) -> None:
    with pytest.raises(ValueError, match=rf"nothing on {SMALL} stays within .*: .*{re.escape(words)}") as no:
        propose(SMALL, budget, tuners=["LoRA"], reducers=["EViT"])
    assert ("MB" in str(no.value)) == ("MB" in budget)  # nothing about what was not asked


def test_published_gains_are_differences_of_the_same_mean() -> None:
    gains = {row.recipe: row.gain for row in printed_rows()}
    assert gains["sparse-tuning"] == pytest.approx(75.64 - 65.57, abs=0.01)  # means of 19 tasks
    assert gains["fpet-adaptformer"] == pytest.approx(76.22 - 68.97, abs=0.01)  # means of groups
    nearest = published_for((DenseAdapter(width=8), EViT(keep=0.84)))
    assert nearest is not None and nearest.recipe == "sparse-tuning(keep=0.9)"
    assert published_for((Adapter(), EViT())) is None


@pytest.mark.parametrize(
    ("methods", "recipe"),
    [
        ((Adapter(),), "adaptformer"),
        ((Adapter(form="sequential"),), "adapter"),
        ((Adapter(bias=False, bits=1),), "bi-adaptformer"),
        ((Adapter(), Bipartite(at=(6,))), "fpet-adaptformer"),
        ((Adapter(), Bipartite(at=(2,))), "fpet-adaptformer(at=(2,))"),
    ],
)
def test_published_rows_are_of_the_same_form_and_block(methods: tuple, recipe: str) -> None:
    row = published_for(methods)
    assert row is not None and row.recipe == recipe


def test_command_prints_a_table_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "plan.png"
    asked = f"plan --model {SMALL} --budget 0.7 --tuner LoRA --reducer EViT --reducer Pool --top 1 --plot"
    assert main([*asked.split(), str(picture)]) == 0
    shown = capsys.readouterr().out
    assert "GMACs" in shown and "LoRA(rank=8)" in shown and "more; --top" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", SMALL], "no budget was given"),
        (["--model", SMALL, "--budget", "much"], "'much' is not understood"),
        (["--model", "vit_bse_patch16_224", "--budget", "0.5"], "vit_base_patch16_224"),
        (["--model", SMALL, "--budget", "0.5", "--tuner", "Lora"], "did you mean LoRA"),
        (["--model", SMALL, "--budget", "0.5", "--top", "0"], "top must be a whole number of at least 1"),
    ],
)
def test_command_refuses_in_a_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
