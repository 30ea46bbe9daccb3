"""Res-Tuning: the released bypass, what it leaves alone, its partners, files, refusals; the adapter form."""

from itertools import product
from pathlib import Path

import pytest
import torch
import tuned
from golden import Golden, assert_close, projection
from torch.nn import functional as F
from toys import images, toy

import vitrim
from vitrim import ResTuning, compose, costs
from vitrim.network.model import StagedViT

GOLDEN = Golden("restuning_bypass_len32_d64")


def golden_model() -> tuple[StagedViT, dict[str, str]]:
    model = compose(GOLDEN.backbone(), ResTuning(length=GOLDEN.about["hyper"]["lengths"][0]))
    names = {
        f"stages.{block}.aside.0.{tuner}.{ours}.{leaf}":
        f"restuning_default.bypass_blocks.{block}.{tuner}_tuner.tuner.{theirs}.{leaf}"
        for block, tuner, (ours, theirs), leaf in product(
            range(4), ("lateral", "vertical"), (("down", "ln1"), ("up", "ln2")), ("weight", "bias")
        )
    }  # fmt: skip
    tuned.set_values(model, GOLDEN, names)
    return model.eval(), names


def test_bypass_and_logits_are_those_of_the_release():
    model, _ = golden_model()
    seen = []
    for stage in model.stages:
        stage.register_forward_hook(lambda module, inputs, state: seen.append(state))
    with torch.no_grad():
        assert_close(model(GOLDEN.images()), GOLDEN["logits"])
        seen.clear()
        logits, state = model.run(GOLDEN.images())
        assert_close(compose(GOLDEN.backbone())(GOLDEN.images()), GOLDEN["logits_without_bypass"])
    assert_close(logits, GOLDEN["logits"])
    assert_close(projection(state.tokens), GOLDEN["block3_proj"])  # the backbone's own
    for block, after in enumerate(seen):
        assert_close(projection(after.side[0].tokens), GOLDEN[f"bypass{block}_proj"])


def test_gradients_are_those_of_the_release_and_the_backbone_gets_none():
    model, names = golden_model()
    model.requires_grad_(True).train()
    logits = model(GOLDEN.images())
    assert_close(logits, GOLDEN["train_logits"])
    logits.square().mean().backward()
    ours = {official: name for name, official in names.items()}
    read = set()
    for row, official in enumerate(GOLDEN.about["grad_names"]):
        name = ours.get(official, f"vit.{official}")
        gradient = model.get_parameter(name).grad
        read.add(name)
        assert_close(gradient.norm(), GOLDEN["grad_norm"][row])
        first = gradient.flatten()[:8]
        assert_close(first, GOLDEN["grad_first8"][row][: len(first)], 1e-8)
    assert {name for name, value in model.named_parameters() if value.grad is not None} == read


@pytest.mark.parametrize("family", ["vit", "distilled", "siglip", "dinov3", "average", "dinov2-registers"])
def test_the_bypass_takes_the_place_of_every_token(family):
    model = tuned.stir(compose(toy(family, depth=3), ResTuning(length=4)))
    tuned.check_training("ResTuning(length=16)", family=family)
    with torch.no_grad():
        batch = images(model)
        assert_close(model(batch), model.run(batch)[0], 1e-10)
        state, places = model.begin(batch)
        bypass = state.tokens
        for stage, block, place in zip(model.stages, model.vit.blocks, places, strict=True):
            state = stage(block, state, place, None)
            step = stage.aside[0]
            bypass = sum(z + tuner.up(F.gelu(tuner.down(z))) for tuner, z in
                         ((step.lateral, state.tokens), (step.vertical, bypass)))  # fmt: skip
        assert_close(model.forward_features(batch), model.vit.norm(bypass), 1e-10)


def test_a_reducer_moves_the_bypass_along():
    model = tuned.stir(compose(toy("average", depth=4), ResTuning(length=4), "EViT(keep=0.5, at=(1, 2))"))
    with torch.no_grad():
        batch = images(model)
        logits, state = model.run(batch)
    assert state.side[0].tokens.shape == state.tokens.shape and state.count < 40
    assert_close(logits, model(batch).detach(), 1e-10)


def test_training_keeps_the_bypass_alone():
    """Each block: a token's input, hidden value and its activation, for each of two tuners."""
    kept = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    model = compose(toy(depth=4), ResTuning(length=3)).train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(images(model)).sum().backward()
    assert not [shape for shape in kept if len(shape) == 4]  # no attention at all
    assert not [shape for shape in kept if shape[-1] in (4 * 24, 3 * 24)]  # no MLP, no qkv


def test_the_adapter_form_is_a_branch_that_starts_silent(tmp_path: Path):
    tuned.check_starts_unchanged("ResTuning(form='adapter')")
    tuned.check_training("ResTuning(form='adapter', length=4)", "LoRA(rank=2)")
    tuned.check_round_trip("ResTuning(form='adapter', length=4)", tmp_path)
    model = tuned.stirred("ResTuning(form='adapter', length=4)")
    assert model.side is None
    branch = model.stages[0].beside_mlp[0].hidden
    normed = torch.randn(2, 5, 24, dtype=torch.float64)
    added = model.stages[0].beside_mlp[0](None, normed)[0]
    assert_close(added, F.gelu(normed @ branch.down.weight.T + branch.down.bias) @ branch.up.weight.T
                 + branch.up.bias, 1e-12)  # fmt: skip


def test_it_saves_loads_and_swaps(tmp_path: Path):
    tuned.check_round_trip("ResTuning(length=4)", tmp_path)
    model = tuned.stirred("ResTuning(length=4)")
    vitrim.save(model, tmp_path / "bypass.safetensors")
    other = tuned.stirred("SynQT(queries=2)")
    vitrim.swap(other, tmp_path / "bypass.safetensors")
    assert torch.equal(tuned.logits(other), tuned.logits(model))


def test_costs_count_the_bypass():
    with torch.device("meta"):
        plain, bypass = (costs(compose("vit_base_patch16_224", *m)) for m in ((), ("ResTuning()",)))
    per_token = 12 * 2 * 2 * 768 * 32
    assert bypass.macs_paper - plain.macs_paper == 197 * per_token
    assert bypass.macs - plain.macs == (11 * 197 + 1) * per_token // 12  # the last block's class token alone


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ResTuning(form='side')", "form must be one of 'bypass', 'adapter'"),
        ("ResTuning(length=0)", "length must be a whole number of at least 1"),
        ("ResTuning(start='ones')", "start must be one of 'xavier', 'zero'"),
        ("ResTuning(form='adapter', start='zero')", "start belongs to form='bypass'"),
    ],
)
def test_impossible_settings_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        compose(toy(depth=2), text)


@pytest.mark.parametrize(
    "partner", ["LoRA()", "SynQT()", "PYRA(schedule=(2, 2, 2, 0))", "Bipartite(at=(1,))"]
)
def test_what_no_gradient_would_reach_is_refused(partner):
    with pytest.raises(
        ValueError, match=r"leaves the backbone without gradients|already reads the side stream"
    ):
        compose(toy(depth=4), "ResTuning()", partner)
