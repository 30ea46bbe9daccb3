"""LTMP against the released code: both graphs, budget, gradients; batches, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from golden import Golden, assert_close, projection
from toys import images, toy

from vitrim import LTMP, EViT, ToMe, compose, costs
from vitrim.methods.reducers.ltmp import MIXING
from vitrim.network.model import StagedViT

OFFICIAL = {"merge_above": "merge_masker", "prune_below": "prune_masker"}
CASES = {"ltmp_tau01_img64": "both", "ltm_tau01_img64": "merge"}


def official(golden: Golden, kind: str) -> tuple[StagedViT, dict[str, torch.nn.Parameter]]:
    """The composition of a golden case with its thresholds, and its parameters by official name."""
    model = compose(golden.backbone(), LTMP(kind=kind))
    names = {name.removeprefix("vit."): weight for name, weight in model.named_parameters()}
    for block, stage in enumerate(model.stages):
        for name, threshold in stage.reducer.named_parameters():
            names[f"blocks.{block}.{OFFICIAL[name]}.threshold"] = threshold
    with torch.no_grad():
        for name, value in golden.about["hyper"]["thresholds"].items():
            names[name].fill_(value)
    return model, names


def with_thresholds(model: StagedViT, merge: float, prune: float) -> StagedViT:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("merge_above", "prune_below")):
                parameter.fill_(merge if name.endswith("merge_above") else prune)
    return model


def test_inference_equals_the_golden() -> None:
    golden = Golden("ltmp_tau01_img64")
    model, _ = official(golden, "both")
    for image in range(2):
        seen = []
        hooks = [
            stage.register_forward_hook(lambda *given, to=seen: to.append(given[-1]))
            for stage in model.stages
        ]
        with torch.no_grad():
            logits, _ = model.run(golden.images()[image : image + 1])
        for hook in hooks:
            hook.remove()
        assert_close(logits, golden[f"inf{image}_logits"])
        assert_close(model(golden.images()[image : image + 1]), golden[f"inf{image}_logits"])
        for block, state in enumerate(seen):
            name = f"inf{image}_block{block}"
            assert list(state.tokens.shape) == golden[f"{name}_shape"].tolist()
            assert_close(projection(state.tokens), golden[f"{name}_proj"])
            assert_close(state.sizes[0], golden[f"{name}_size"].double()[1:])


@pytest.mark.parametrize("case", CASES)
def test_masked_graph_equals_the_golden(case: str) -> None:
    golden = Golden(case)
    model, _ = official(golden, CASES[case])
    model.train()
    for stage in model.stages:
        stage.mixing = replace(MIXING, epsilon=0.0)  # the release's evaluation of the masked graph
    seen = []
    for stage in model.stages:
        stage.register_forward_hook(lambda *given: seen.append(given[-1]))
    with torch.no_grad():
        logits, _ = model.run(golden.images())
    assert_close(logits, golden["logits"])
    for block, state in enumerate(seen):
        assert_close(projection(state.tokens), golden[f"block{block}_proj"])
        assert_close(state.keep, golden["masks"][block, :, 1:])


@pytest.mark.parametrize("case", CASES)
def test_training_and_gradients_equal_the_golden(case: str) -> None:
    golden = Golden(case)
    model, names = official(golden, CASES[case])
    model.train().requires_grad_(True)
    logits, penalty = model.forward_with_penalty(golden.images())
    assert_close(logits, golden["train_mode_logits"])
    assert_close(model.run(golden.images())[1].spent, golden["flops_ratio"])
    loss = logits.square().mean() + penalty
    assert_close(loss, golden["train_loss"])
    loss.backward()
    for name, norm in zip(golden.about["grad_names"], golden["grad_norm"], strict=True):
        assert names[name].grad.norm().item() == pytest.approx(norm.item(), rel=1e-9), name


@pytest.mark.parametrize("family", ["vit", "siglip", "dinov3", "average-registers"])
@pytest.mark.parametrize("kind", ["both", "merge", "prune"])
def test_a_padded_batch_is_its_images(family: str, kind: str) -> None:
    model = with_thresholds(compose(toy(family, depth=5), LTMP(kind=kind)), merge=0.6, prune=0.0145)
    batch = images(model, batch=4)
    with torch.no_grad():
        together, state = model.run(batch)
        singles = [model.run(batch[i : i + 1]) for i in range(4)]
    counts = [single.count for _, single in singles]
    assert len(set(counts)) > 1 and max(counts) == state.count < 64
    torch.testing.assert_close(together, torch.cat([logits for logits, _ in singles]), rtol=0, atol=1e-10)
    torch.testing.assert_close(model(batch), together, rtol=0, atol=1e-10)
    assert state.keep.sum(1).tolist() == counts


def test_other_reducers_that_read_masks_work_on_padded_batches() -> None:
    methods = LTMP(at=(0, 1)), EViT(keep=0.5, at=3)
    model = with_thresholds(compose(toy("vit", depth=5), *methods), merge=0.6, prune=0.0145)
    logits, state = model.run(images(model, batch=3))
    assert torch.isfinite(logits).all() and state.count < 33


def test_at_least_one_patch_stays() -> None:
    model = with_thresholds(compose(toy("average-registers", depth=3), LTMP(kind="prune")), 1.0, prune=1.0)
    for composed in (model.eval(), model.train()):
        logits, state = composed.run(images(model))
        assert torch.isfinite(logits).all()
        assert (state.sizes * (1 if state.keep is None else state.keep)).sum(1).min() >= 1


def test_training_meets_the_budget() -> None:
    model = compose(toy("vit", depth=4), LTMP(budget=0.6)).train()
    thresholds = [weight for name, weight in model.named_parameters() if "reducer" in name]
    optimizer = torch.optim.Adam(thresholds, lr=0.01)
    batch, spent = images(model, batch=4), []
    for _ in range(60):
        _, state = model.run(batch)
        spent.append(state.spent.item())
        optimizer.zero_grad()
        state.penalty.backward()
        optimizer.step()
    assert spent[0] > 0.9 and abs(spent[-1] - 0.6) < 0.05
    model(batch)
    assert all(0 <= weight.item() <= 1 for weight in thresholds)


def test_costs_do_not_count_on_what_depends_on_the_image() -> None:
    model = compose(toy("vit"), LTMP())
    assert costs(model).tokens == (65,) * 12


def test_refusals() -> None:
    with pytest.raises(ValueError, match="kind must be one of 'both', 'merge', 'prune', got 'all'"):
        LTMP(kind="all")
    with pytest.raises(ValueError, match="tau must be above 0, got 0"):
        LTMP(tau=0)
    with pytest.raises(ValueError, match="ToMe at block 2 comes after LTMP at block 0, which masks tokens"):
        compose(toy(), LTMP(at=0), ToMe(r=[0, 0, 4]))
    model = compose(toy(depth=2), LTMP())
    with pytest.raises(Exception, match="cannot be exported: how many tokens stay depends on the image"):
        torch.export.export(model, (images(model),))


def test_a_single_token_left_without_a_class_token_merges_with_nothing() -> None:
    model = with_thresholds(compose(toy("siglip", depth=3), LTMP()), merge=0.5, prune=1.0).eval()
    with torch.no_grad():
        logits, state = model.run(images(model))
    assert state.count == 1 and bool(logits.isfinite().all())
