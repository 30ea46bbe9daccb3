"""Scores, allocation, packing and placement, against second, naive ways to get them."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from naive_scores import batches_for, naive_scores
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from toys import images, toy

from vitrim import FisherDelta, compose
from vitrim.methods.selection.allocation import best_inputs, connections_per_neuron, layer_totals, top_counts
from vitrim.methods.selection.comparing import overlap, redundancy, spearman
from vitrim.methods.selection.contrastive import contrastive_loss
from vitrim.methods.selection.files import load_scores, save_scores
from vitrim.methods.selection.index_packing import bits_of, pack_indices, packed_bytes, unpack_indices
from vitrim.methods.selection.placement import choose_blocks
from vitrim.methods.selection.scores import measure_scores
from vitrim.network.model import StagedViT
from vitrim.tokens.state import TokenState

BY = FisherDelta()
MANY = settings(max_examples=60, deadline=None)
FAMILIES = ("vit", "distilled", "siglip", "eva02", "dinov3-qkvb", "average")

# Few different values, so ties are common
matrices = st.lists(
    arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.integers(0, 4)),
    min_size=1,
    max_size=5,
)


@MANY
@given(matrices, st.floats(0.5, 100))
def test_top_counts_are_those_of_a_full_stable_sort(parts: list[np.ndarray], percent: float) -> None:
    scores = {str(i): torch.from_numpy(part) for i, part in enumerate(parts)}
    flat = np.concatenate([part.ravel() for part in parts])
    owner = np.concatenate([np.full(part.size, i) for i, part in enumerate(parts)])
    wanted = max(1, int(np.floor(percent / 100 * flat.size)))
    top = owner[np.argsort(-flat, kind="stable")[:wanted]]
    assert list(top_counts(scores, percent).values()) == [int((top == i).sum()) for i in range(len(parts))]


@MANY
@given(
    arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=st.integers(0, 3)), st.data()
)
def test_best_inputs_are_those_of_a_stable_sort_by_row(score: np.ndarray, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, score.shape[1]))
    expected = [sorted(np.argsort(-row, kind="stable")[:count].tolist()) for row in score]
    assert best_inputs(torch.from_numpy(score), count).tolist() == expected


@MANY
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any),
    st.integers(1, 4),
    st.sampled_from(["floor", "nearest"]),
    st.sampled_from(["one", "none"]),
)
def test_connections_follow_the_equation(totals: list[int], least: int, rounding: str, empty: str) -> None:
    found = connections_per_neuron(totals, least, rounding, empty)
    smallest = min(total for total in totals if total)
    for total, connections in zip(totals, found, strict=True):
        exact = total * least / smallest
        if total == 0:
            assert connections == (0 if empty == "none" else 1)
        elif rounding == "floor":
            assert connections == max(1, total * least // smallest)
        else:
            assert abs(connections - exact) <= 0.5 and connections >= 1
    if least == 1 or all(totals):
        assert found[totals.index(smallest)] == least


def test_matrices_of_one_layer_are_counted_together() -> None:
    assert layer_totals([1, 2, 3, 4], [0, 0, 1, 1]) == [3, 3, 7, 7]


@MANY
@given(st.integers(1, 5000), st.integers(0, 40), st.randoms(use_true_random=False))
def test_packed_indices_come_back(size: int, count: int, luck: object) -> None:
    index = torch.tensor([luck.randrange(size) for _ in range(count)], dtype=torch.long)  # type: ignore[attr-defined]
    packed = pack_indices(index, size)
    assert packed.numel() == packed_bytes(count, size) == -(-count * bits_of(size) // 8)
    assert torch.equal(unpack_indices(packed, count, size), index)


@MANY
@given(
    st.lists(st.integers(0, 9), min_size=4, max_size=9),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(1, 3),
    st.sampled_from(["sparse", "dense", "random"]),
)
def test_placement_is_the_best_of_all_that_are_allowed(
    shares: list[int], blocks: int, first: int, apart: int, rule: str
) -> None:
    allowed = [
        chosen
        for chosen in itertools.combinations(range(first, len(shares)), blocks)
        if all(b - a >= apart for a, b in itertools.pairwise(chosen))
    ]
    if not allowed:
        with pytest.raises(ValueError, match="do not fit into"):
            choose_blocks(shares, rule, blocks, first, apart)
        return
    chosen = choose_blocks(shares, rule, blocks, first, apart, seed=sum(shares))
    assert chosen in allowed
    totals = {each: sum(shares[i] for i in each) for each in allowed}
    if rule != "random":
        best = min(totals.values()) if rule == "sparse" else max(totals.values())
        assert totals[chosen] == best
        assert chosen == next(each for each in allowed if totals[each] == best)


def test_random_placement_depends_on_the_seed_alone() -> None:
    shares = (0.1,) * 12
    drawn = {choose_blocks(shares, "random", 3, seed=seed) for seed in range(12)}
    assert len(drawn) > 3
    assert choose_blocks(shares, "random", 3, seed=5) == choose_blocks(shares[::-1], "random", 3, seed=5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("measure", ["per_sample", "batch", "gradient"])
def test_scores_equal_gradients_taken_one_by_one(family: str, measure: str) -> None:
    model = compose(toy(family))
    batches = batches_for(model)
    found = measure_scores(model, batches, BY, measure, patch=True)
    expected = naive_scores(model, batches, measure, patch=True)
    assert list(found.values) == list(expected)
    for name, score in expected.items():
        torch.testing.assert_close(found.values[name], score, rtol=1e-9, atol=1e-30)


def test_scores_are_of_the_plain_backbone_and_leave_it_as_it_was() -> None:
    bare, reduced = compose(toy()), compose(toy(), "EViT(keep=0.5)", "Adapter(width=4)").train()
    batches = batches_for(bare)
    plain, beside = (measure_scores(model, batches, BY).values for model in (bare, reduced))
    assert all(torch.equal(plain[name], beside[name]) for name in plain)
    assert reduced.training and all(weight.grad is None for weight in reduced.parameters())
    assert type(reduced.vit.blocks[0].attn.qkv) is torch.nn.Linear


def test_few_images_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = compose(toy())
    batches = batches_for(model, count=1, size=5)
    whole = measure_scores(model, batches, BY).values
    monkeypatch.setattr("vitrim.methods.selection.scores.CHUNK", 2 * 24 * 72)
    for name, score in measure_scores(model, batches, BY).values.items():
        torch.testing.assert_close(score, whole[name], rtol=1e-10, atol=0)


def test_contrastive_loss_is_the_sum_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, 0, 1, 0])
    z = features / features.norm(dim=1, keepdim=True)
    total = 0.0
    for i in range(6):
        below = sum(torch.exp(z[i] @ z[a] / 0.07) for a in range(6) if a != i)
        same = [p for p in range(6) if p != i and labels[p] == labels[i]]
        total -= sum(torch.log(torch.exp(z[i] @ z[p] / 0.07) / below) for p in same) / len(same)
    torch.testing.assert_close(contrastive_loss(features, labels), total / 6)


def test_scores_come_back_from_their_file(tmp_path: Path) -> None:
    model = compose(toy())
    scores = measure_scores(model, batches_for(model), BY, "batch")
    save_scores(scores, tmp_path / "scores.safetensors")
    again = load_scores(tmp_path / "scores.safetensors")
    assert (again.measure, again.loss, again.images) == ("batch", "cross_entropy", 6)
    assert all(torch.equal(again.values[name], score) for name, score in scores.values.items())


REFUSED = {
    "there are no images to choose weights by": lambda m: measure_scores(m, [], BY),
    "have a label 7, but the classifier tells only 5": lambda m: measure_scores(
        m, [(images(m), torch.tensor([7, 0]))], BY
    ),
    "contrastive needs batches of ((view, other view), labels)": lambda m: measure_scores(
        m, batches_for(m), BY, "gradient", "contrastive"
    ),
    "some gradients are not finite": lambda m: measure_scores(
        m, [(images(m) * torch.nan, torch.tensor([0, 1]))], BY
    ),
    "every gradient is zero": lambda m: measure_scores(m.requires_grad_(False), zero_head(m), BY),
    "no scores file": lambda m: load_scores("nowhere.safetensors"),
}


def zero_head(model: StagedViT) -> list[tuple[Tensor, Tensor]]:
    with torch.no_grad():
        model.vit.head.weight.zero_()
    return batches_for(model)


@pytest.mark.parametrize("sentence", REFUSED)
def test_nothing_to_rank_by_is_a_sentence(sentence: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        REFUSED[sentence](compose(toy()))
    assert sentence in str(caught.value)


def test_a_damaged_scores_file_is_a_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "scores.safetensors"
    broken.write_bytes(b"not scores")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_scores(broken)


def test_scores_may_be_supplied_without_a_word_about_them(tmp_path: Path) -> None:
    save_file({"blocks.0.attn.qkv.weight": torch.ones(3, 4)}, tmp_path / "mine.safetensors")
    mine = load_scores(tmp_path / "mine.safetensors")
    assert (mine.measure, list(mine.values)) == ("", ["blocks.0.attn.qkv.weight"])


def test_overlap_counts_shared_weights_and_knows_chance() -> None:
    one = {"a": torch.tensor([[0, 1], [2, 3]]), "b": torch.tensor([[0], [1]])}
    other = {"a": torch.tensor([[1, 2, 3], [0, 1, 4]]), "b": torch.tensor([[0], [0]])}
    share, chance = overlap(one, other, {"a": 6, "b": 4})
    assert share == 2 / 6 and chance == pytest.approx((2 * 2 * 3 / 6 + 2 * 1 / 4) / 6)
    assert overlap(one, one, {"a": 6, "b": 4})[0] == 1


def test_spearman_is_the_correlation_of_ranks() -> None:
    assert spearman([1, 2, 3, 4], [10, 100, 1000, 10000]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 2], [5, 6, 7]) == pytest.approx(3**0.5 / 2)


def test_redundancy_is_the_mean_cosine_of_pairs() -> None:
    tokens = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    cosines = F.cosine_similarity(tokens[:, 1:, None], tokens[:, None, 1:], dim=-1)  # [B, N, N]
    expected = (cosines.sum((1, 2)) - 5) / 20
    assert redundancy(TokenState.start(tokens, 1, (5,))) == pytest.approx(expected.mean().item(), abs=1e-6)
