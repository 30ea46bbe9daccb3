"""The rules of budgets against goldens and hand-made cases; padding; calibration."""

import copy
import pickle

import numpy as np
import pytest
import torch
from golden import Golden
from toys import images, toy, with_random_predictors

import vitrim
from vitrim import DynamicViT, EViT, compose
from vitrim.methods.budgets import RULES
from vitrim.methods.budgets.calibrating import level_for
from vitrim.methods.budgets.chosen import Chosen, within
from vitrim.methods.budgets.mass import by_mass
from vitrim.methods.budgets.sampled import by_quantiles
from vitrim.methods.budgets.threshold import above, probable
from vitrim.methods.reducers.keeping import KeepAttended
from vitrim.network.method import Method
from vitrim.network.placing import placed

LEVELS = {"mass": 0.8, "sampled": 24, "threshold": 0.9}


def test_mass_equals_the_golden() -> None:
    golden = Golden("adaptive_mass_r6_n49")
    config = golden.about["config"]
    logits = np.random.default_rng(golden.about["input_seed"]).standard_normal((6, 49))
    scores = 0.8 * torch.from_numpy(logits * np.array(config["temperatures"])[:, None]).softmax(1)
    for row, tau in enumerate(config["tau"]):
        chosen = by_mass(scores, tau)
        assert torch.equal(chosen.counts, golden["count"][row].long())
        assert torch.equal(chosen.order, golden["order"].long())
        share = (scores / scores.sum(1, keepdim=True)).gather(1, chosen.order).cumsum(1)
        rest = 1 - share.gather(1, chosen.counts[:, None] - 1)[:, 0]
        torch.testing.assert_close(rest, golden["rest_mass"][row], rtol=0, atol=1e-12)
        for index, (least, most) in enumerate(config["bounds"]):
            bounded = within(chosen, scores, least / 49, most / 49)
            assert torch.equal(bounded.counts, golden["count_bounded"][index][row].long())
    for row, tau, count in golden.about["hand"]:
        assert by_mass(torch.tensor([row]).double(), tau).counts.item() == count


@pytest.mark.parametrize("quantiles", [32, 20, 48])
def test_sampled_equals_the_golden(quantiles: int) -> None:
    golden = Golden("ats_n33_h4")
    chosen = by_quantiles(golden["score"], quantiles)
    counts, kept = golden[f"K{quantiles}_count"].long(), golden[f"K{quantiles}_kept"]
    assert torch.equal(chosen.counts, counts)
    for image, count in enumerate(counts.tolist()):
        assert set(chosen.order[image, :count].tolist()) == set(kept[image, :count].tolist())
        falling = golden["score"][image, chosen.order[image, :count]]
        assert bool((falling.diff() <= 0).all())


def test_sampled_scores_are_the_released_ones() -> None:
    golden = Golden("ats_n33_h4")
    generator = np.random.default_rng(golden.about["input_seed"])
    logits, values = generator.standard_normal((4, 4, 33, 33)), generator.standard_normal((4, 4, 33, 8))
    weights = torch.from_numpy(logits * np.array([0.5, 1, 2, 4])[:, None, None, None]).softmax(-1)
    model = compose(toy("vit"), EViT(at=1, budget="sampled", levels=(32,)))
    step = next(part for _, part in placed(model) if isinstance(part, KeepAttended))
    from vitrim.tokens.attended import Attended
    from vitrim.tokens.state import TokenState

    nothing = torch.zeros(4, 4, 33, 8).double()
    seen = Attended(nothing, nothing, nothing, 1.0, None, 1, weights=weights, values=torch.from_numpy(values))
    scores = step.ranked(TokenState.start(torch.zeros(4, 33, 24).double(), 1, (4, 8)), seen)
    shares = scores / scores.sum(1, keepdim=True)
    torch.testing.assert_close(shares, golden["score"], rtol=0, atol=1e-12)


def test_probabilities_are_compared_with_the_level_itself() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.95, -1], [0.1, 0.2, 0.7, 0.1], [0.1, 0.2, 0.3, 0.1]])
    chosen = probable(scores, 0.5)
    assert chosen.counts.tolist() == [3, 1, 1]  # all that are needed; none is: the best stays
    assert chosen.order.tolist() == [[2, 0, 1, 3], [2, 1, 0, 3], [2, 1, 0, 3]]


def test_threshold_by_hand() -> None:
    scores = torch.tensor([[4.0, 1.0, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    assert above(scores, 0.9).counts.tolist() == [2, 4]  # of even shares: 2, 0.5, 0.5, 1 and 1, 1, 1, 1
    assert above(scores, 1.0).counts.tolist() == [1, 1]  # none of the second is above: the best stays
    assert above(scores, 0.9).order.tolist() == [[0, 3, 1, 2], [0, 1, 2, 3]]


@pytest.mark.parametrize("rule", RULES)
def test_padding_changes_no_choice(rule: str) -> None:
    scores = torch.rand(40, 30, generator=torch.Generator().manual_seed(0)).double() ** 3
    own = torch.arange(40) % 30 + 1  # from 1 to N
    padded = scores.masked_fill(torch.arange(30) >= own[:, None], -1)
    together = within(RULES[rule].choose(padded, LEVELS[rule]), padded, 0.1, 0.8)
    for image, count in enumerate(own.tolist()):
        one = scores[image : image + 1, :count]
        alone = within(RULES[rule].choose(one, LEVELS[rule]), one, 0.1, 0.8)
        kept = int(alone.counts)
        assert int(together.counts[image]) == kept >= 1
        assert together.order[image, :kept].tolist() == alone.order[0, :kept].tolist()
        assert sorted(together.order[image].tolist()) == list(range(30))


def test_bounds_hold_in_every_image_and_one_token_always_stays() -> None:
    scores = torch.ones(3, 10)
    chosen = Chosen(torch.tensor([0, 5, 10]), torch.arange(10).expand(3, -1))
    assert within(chosen, scores, 0, 1).counts.tolist() == [1, 5, 10]
    assert within(chosen, scores, 0.31, 0.62).counts.tolist() == [4, 5, 7]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mean", [5.0, 20.0, 40.0])
def test_the_level_gives_the_mean(rule: str, mean: float) -> None:
    scores = torch.rand(64, 50, generator=torch.Generator().manual_seed(1)).double() ** 4
    level = level_for(RULES[rule], scores, mean, 0, 1)
    counts = RULES[rule].choose(scores, level).counts.double()
    assert abs(counts.mean().item() - mean) < (0.5 if rule == "sampled" else 0.05)  # whole levels
    assert counts.unique().numel() > 1


FITTED = [EViT(keep=0.6, at=(1, 2), budget=rule, fuse="drop") for rule in RULES]
FITTED += [DynamicViT(keep=0.6, at=(1, 2), budget=rule) for rule in DynamicViT.rules]
FITTED += [DynamicViT(keep=(0.8, 0.3), at=(1, 3), budget="threshold", least=0.2)]


@pytest.mark.parametrize("method", FITTED, ids=repr)
def test_fitted_counts_have_the_mean_of_the_fixed_share(method: EViT | DynamicViT) -> None:
    model = with_random_predictors(compose(toy("vit", depth=4), method))
    batch = images(model, batch=24)
    with pytest.raises(ValueError, match=r"not calibrated yet; call vitrim\.fit"):
        model(batch)
    vitrim.fit(model, [(batch[:10], None), (batch[10:], None)])
    counts = torch.tensor(model.run(batch)[1].padding.counts).double()
    fixed = compose(toy("vit", depth=4), method.with_fixed_counts())
    assert abs(counts.mean() - fixed.run(batch)[1].count) <= 0.5
    assert counts.unique().numel() > 2


@pytest.mark.parametrize(
    "method",
    [
        EViT(keep=0.5, at=(2, 4), budget="mass", least=0.2),
        DynamicViT(keep=0.6, at=(2, 4), budget="threshold"),
    ],
    ids=repr,
)
def test_calibrated_models_are_saved_and_restored(tmp_path, method: EViT | DynamicViT) -> None:
    model = with_random_predictors(compose("vitrim_tiny_patch8_96", method, num_classes=3))
    batch, states = images(model, batch=5), len(model.state_dict())
    vitrim.fit(model, [(batch, None)])
    assert model.methods[0].levels is not None and len(model.methods) == 1
    assert len(model.state_dict()) == states
    vitrim.save(model, tmp_path / "model.safetensors")
    again = vitrim.load(tmp_path / "model.safetensors")
    assert again.methods == model.methods
    with torch.no_grad():
        assert torch.equal(again(batch), model.eval()(batch))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("EViT(budget='masses')", "budget must be one of 'fixed', 'mass', 'sampled', 'threshold'"),
        ("EViT(least=0.2)", "least, most and levels belong to a budget per image"),
        ("EViT(budget='mass', least=0.5, most=0.2)", "least must not be above most"),
        ("EViT(budget='mass', most=1.2)", "most must be a share from 0 to 1, got 1.2"),
        ("EViT(budget='mass', most=0.5)", "keep=0.7 must lie between least=0.0 and 0.5"),
        (
            "EViT(budget='mass', levels=(0.5,))",
            "levels must be a number of at least 0 for each of",
        ),
        ("EViT(budget='sampled', levels=(1, 2, 2.5))", "levels must be a whole number of at least 1"),
        (
            "EViT(keep=(0.5, 0.6))",
            "keep must be one share, or one for each of the 3 blocks",
        ),
        ("EViT(train_keep=(0.9, 0.5))", r"train_keep must be \(low, high\)"),
        ("EViT(train_keep=(0.5, 0.9), warmup=(1, 2))", "train_keep and warmup both say what training keeps"),
        ("ToMe(budget='mass')", "ToMe has no setting 'budget': it ranks pairs of tokens, and r or keep says"),
        ("Bipartite(budget='mass')", "Bipartite has no setting 'budget': it merges one half of the tokens"),
        ("PYRA(budget='mass')", "PYRA has no setting 'budget': it ranks pairs of tokens, and schedule says"),
        ("Pool(budget='mass')", "Pool has no setting 'budget': it averages windows of the grid"),
        ("DynamicViT(budget='sampled')", "predictors stand before a block's attention; use 'mass' or"),
        ("DynamicViT(budget='masses')", "DynamicViT: budget must be one of 'fixed', 'mass', 'threshold'"),
        ("DynamicViT(levels=(1, 1, 1))", "DynamicViT: least, most and levels belong to a budget per image"),
        ("DynamicViT(keep=(0.9, 0.5, 0.4), budget='mass', least=0.6)", "must lie between least=0.6"),
    ],
)
def test_refusals(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        vitrim.parse_method(text)


@pytest.mark.parametrize("kind", [kind for kind in vitrim.REDUCERS.values() if kind.without])
def test_what_a_reducer_cannot_have_is_refused_in_python_as_in_text(kind: type[Method]) -> None:
    for name in kind.without:
        with pytest.raises(ValueError) as written:
            vitrim.parse_method(f"{kind.__name__}({name}=1)")
        with pytest.raises(ValueError) as called:
            kind(**{name: 1})
        assert str(called.value) == str(written.value)
        assert copy.copy(kind()) == pickle.loads(pickle.dumps(kind())) == kind()
