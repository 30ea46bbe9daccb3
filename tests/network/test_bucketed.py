"""Batches of images that keep different counts: packed, in sub-batches, padded and one by one they are the
same."""

import itertools
from dataclasses import replace

import pytest
import torch
from toys import images, toy, with_random_predictors

from vitrim import LTMP, VPT, Adapter, DenseAdapter, DynamicViT, EViT, ToMe, compose
from vitrim.backbones import fastest
from vitrim.methods.budgets import RULES
from vitrim.methods.budgets.chosen import Chosen
from vitrim.network import bucketed, executions
from vitrim.network.bucketed import buckets, tokens_in, varies
from vitrim.network.model import StagedViT
from vitrim.tokens.restore import restore

# Levels by hand, at which these toys keep from 1 to all tokens
PACKED = ["dinov3", "rope-mixed", "eva02", "pe-core", "qk-norm", "distilled", "siglip", "average-registers"]
PACKED += ["res-post", "parallel-things", "parallel-scaling", "differential", "naflex-rotary"]
NEVER_PACKED = ["beit", "relpos-shared", "cait"]  # a bias for each pair of tokens, or heads mixed
COUNTS = [1, 2, 17, 40, 63, 64, 64, 5]  # of eight images, of their 64 patches
LEVELS = {"mass": (0.8, 0.5, 0.9), "sampled": (90, 40, 30), "threshold": (0.8, 0.9, 1.0)}


def batch_of(model: StagedViT, count: int = 7) -> torch.Tensor:
    """Images of very different contrast, so that counts differ."""
    factors = torch.logspace(-1, 1.5, count, dtype=torch.float64).view(-1, 1, 1, 1)
    batch = images(model, batch=count)
    return batch * factors.to(batch.dtype)


def one_by_one(model: StagedViT, batch: torch.Tensor) -> torch.Tensor:
    return torch.cat([model(batch[i : i + 1]) for i in range(len(batch))])


def with_counts(model: StagedViT) -> StagedViT:
    """Block 1 leaves the images of a batch of eight `COUNTS`, in a batch or one after the other."""
    step, row = model.stages[1].reducer, itertools.cycle(COUNTS)

    def choose(scores: torch.Tensor) -> Chosen:
        counts = [next(row) for _ in range(len(scores))]
        return Chosen(torch.tensor(counts), scores.argsort(dim=1, descending=True, stable=True))

    step.choose = choose
    return model


def check_same(model: StagedViT, batch: torch.Tensor, within: float) -> list[int]:
    """Logits in every way to run are those of single images; how many tokens each image has in the end."""
    singles = one_by_one(model, batch)
    for execution in ("padded", "bucketed", "packed", "measured"):
        model.set_execution(execution)
        torch.testing.assert_close(model(batch), singles, rtol=0, atol=within)
        logits, state = model.run(batch)
        torch.testing.assert_close(logits, singles, rtol=0, atol=within)
    ends = [model.run(batch[i : i + 1])[1] for i in range(len(batch))]
    counts = [end.count for end in ends]
    assert state.padding is not None and list(state.padding.counts) == counts
    for row, end in enumerate(ends):
        assert torch.equal(state.source[row], end.source[0])
        assert state.keep[row].sum() == counts[row] and state.keep[row, : counts[row]].all()
    return counts


@pytest.mark.parametrize(
    ("rule", "fuse"),
    [*((rule, "mean") for rule in RULES), ("mass", "sum"), ("sampled", "argmax"), ("threshold", "drop")],
)
def test_every_way_to_run_is_the_same(rule: str, fuse: str) -> None:
    method = EViT(at=(1, 2, 3), budget=rule, fuse=fuse, levels=LEVELS[rule])
    model = compose(toy("vit", depth=5), method)
    with torch.no_grad():
        counts = check_same(model, batch_of(model), 1e-12)
        assert len(set(counts)) > 3
        if fuse == "mean":
            single = compose(toy("vit", depth=5, dtype=torch.float32), method)
            check_same(single, batch_of(single, 5), 4e-6)


@pytest.mark.parametrize("fuse", ["mean", "sum", "argmax", "drop"])
def test_counts_that_agree_are_a_fixed_share(fuse: str) -> None:
    """Tokens that stay and the one that is fused are what the reduction of a fixed share makes."""
    share = EViT(keep=0.5, at=(1, 3), fuse=fuse)
    fixed = compose(toy("vit", depth=6), share)
    model = compose(
        toy("vit", depth=6), replace(share, budget="mass", least=0.5, most=0.5, levels=(0.7, 0.7))
    )
    batch = batch_of(model)
    with torch.no_grad():
        expected, state = fixed.run(batch)
        for execution in ("padded", "bucketed", "packed"):
            model.set_execution(execution)
            torch.testing.assert_close(model(batch), expected, rtol=0, atol=1e-12)
        found = model.run(batch)[1]
    assert torch.equal(found.source, state.source) and torch.equal(found.sizes, state.sizes)


@pytest.mark.parametrize("rule", ["mass", "threshold"])
def test_predictors_run_the_same_way(rule: str) -> None:
    """Also with prompts in front, and with another kind of reducer behind."""
    levels = {"mass": (0.7, 0.6, 0.9), "threshold": (0.45, 0.5, 0.4)}[rule]
    methods = [DynamicViT(at=(1, 3, 5), budget=rule, levels=levels), VPT(prompts=2)]
    methods += [EViT(at=4, budget="mass", levels=(0.8,))]
    model = with_random_predictors(compose(toy("vit", depth=7), *methods))
    with torch.no_grad():
        counts = check_same(model, batch_of(model), 1e-12)
    assert len(set(counts)) > 3


@pytest.mark.parametrize("family", [*PACKED, *NEVER_PACKED])
def test_every_kind_of_backbone(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether what attention does allows packed rows or not."""
    plain, packed = toy(family, depth=4), list[bool]()
    score = "class" if compose(plain).has_class_token else "received"
    score = "pool" if family == "siglip" else score
    model = compose(plain, EViT(at=(1, 2), budget="mass", levels=(0.7, 0.6), score=score))
    run = executions.pass_packed
    monkeypatch.setattr(executions, "pass_packed", lambda *given: packed.append(True) or run(*given))
    batch = batch_of(model, 5)
    with torch.no_grad():
        singles = one_by_one(model, batch)
        for execution in ("padded", "bucketed", "packed"):
            model.set_execution(execution)
            torch.testing.assert_close(model(batch), singles, rtol=0, atol=1e-11)
            torch.testing.assert_close(model.run(batch)[0], singles, rtol=0, atol=1e-11)
    assert len(packed) == (0 if family in NEVER_PACKED else 2)


def test_packed_rows_compute_no_padding() -> None:
    """Of images that keep from 1 to all, linear layers and norms see the tokens there are; an image of which
    all is kept has no fused token."""
    model = with_counts(compose(toy("vit", depth=4), EViT(at=1, budget="mass", levels=(0.7,))))
    model.set_execution("packed")
    seen: dict[str, list[int]] = {}
    for name in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"):
        layer = model.vit.blocks[2].get_submodule(name)
        layer.register_forward_hook(
            lambda _, given, out, name=name: seen.setdefault(name, []).append(out.shape[:2].numel())
        )
    with torch.no_grad():
        model(images(model, batch=8))
    left = sum(1 + count + (count < 64) for count in COUNTS)
    assert seen == {name: [left] for name in seen} and len(seen) == 6


@pytest.mark.parametrize("fuse", ["drop", "mean"])
def test_counts_from_one_to_all(fuse: str) -> None:
    methods = EViT(at=1, budget="mass", levels=(0.7,), fuse=fuse), Adapter(width=2), DenseAdapter(width=2)
    model = with_counts(compose(toy("vit", depth=4), *methods))
    batch = images(model, batch=8)
    with torch.no_grad():
        for value in model.trained().values():
            value.normal_(std=0.3)
        singles = torch.cat([model(batch[row : row + 1]) for row in range(8)])
        for execution in ("padded", "bucketed", "packed"):
            model.set_execution(execution)
            torch.testing.assert_close(model(batch), singles, rtol=0, atol=1e-12)


def test_reducers_behind_it_see_no_padding() -> None:
    methods = EViT(at=1, budget="mass", levels=(0.7,)), ToMe(r=[0, 0, 3, 2, 0, 0]), EViT(keep=0.5, at=4)
    model = compose(toy("vit", depth=6), *methods)
    with torch.no_grad():
        check_same(model, batch_of(model), 1e-12)


def test_learned_thresholds_run_the_same_way() -> None:
    model = compose(toy("vit", depth=6), LTMP(at=(1, 3)))
    with torch.no_grad():
        for name, value in model.trained().items():
            if name.endswith("prune_below"):
                value.fill_(0.013)
            elif name.endswith("merge_above"):
                value.fill_(0.6)
        counts = check_same(model, batch_of(model), 1e-12)
    assert len(set(counts)) > 2


@pytest.mark.parametrize("kind", [EViT, DynamicViT])
def test_restoring_and_what_was_fused_are_those_of_single_images(kind: type[EViT | DynamicViT]) -> None:
    from vitrim.report.traced import FUSED, trace

    method = kind(at=(1, 3), budget="mass", levels=(0.7, 0.8))
    model = with_random_predictors(compose(toy("vit", depth=6), method))
    batch = batch_of(model)
    whole, fates = model.run(batch, history=True)[1], trace(model, batch).blocks[-1].fate
    assert (fates == FUSED).any() == (kind is EViT) and whole.padding is not None
    for row in range(len(batch)):
        alone = batch[row : row + 1]
        for mode in ("delta", "copy", "knn"):
            single = restore(model.run(alone, history=True)[1], mode)
            torch.testing.assert_close(restore(whole, mode)[row : row + 1], single, rtol=0, atol=1e-10)
        assert torch.equal(trace(model, alone).blocks[-1].fate[0], fates[row])


def test_sub_batches_are_the_best_there_are() -> None:
    assert buckets([5, 5, 5]) == [[0, 1, 2]]
    assert buckets([9, 3, 9, 3]) == [[1, 3], [0, 2]]
    counts = torch.randint(10, 100, (12,), generator=torch.Generator().manual_seed(0)).tolist()
    found = buckets(counts)
    assert sorted(index for group in found for index in group) == list(range(12)) and len(found) <= 4
    ordered = sorted(range(12), key=lambda index: counts[index])
    every = [
        tokens_in(counts, [ordered[i:j] for i, j in zip((0, *cut), (*cut, 12), strict=True)])
        for a in range(1, 10)
        for b in range(a + 1, 11)
        for cut in [(a, b, c) for c in range(b + 1, 12)]
    ]
    assert tokens_in(counts, found) <= min(every) / (1 - bucketed.LEAST_GAIN)


def test_what_was_measured_is_kept_by_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    model = compose(toy("vit", depth=3), EViT(at=1, budget="mass", levels=(0.7,)))
    model.set_execution("measured")
    seconds = iter([3.0, 3.0, 1.0, 4.0, 2.0, 2.0])
    monkeypatch.setattr(fastest, "seconds_of", lambda way, device: next(seconds))
    batch = batch_of(model)
    model(batch)
    model(batch)  # not measured again
    assert list(model.faster.values()) == ["bucketed"]
    with pytest.raises(ValueError, match="must be one of 'automatic', 'packed', 'bucketed', 'padded'"):
        model.set_execution("fast")


def test_gradients_are_those_of_single_images() -> None:
    model = compose(toy("vit", depth=4), EViT(at=1, budget="mass", levels=(0.7,)))
    assert varies(model)
    batch, found = batch_of(model), []
    for run in (model, lambda images: one_by_one(model, images)):
        model.zero_grad()
        run(batch).square().mean().backward()
        found.append([p.grad.clone() for p in model.trained().values()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
