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
from vitrim.backbones.shapes import shapes_only
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


def test_a_silent_start_sums_what_the_blocks_gave():
    model = compose(toy(depth=3), ResTuning(start="zero")).eval()
    with torch.no_grad():
        batch = images(model)
        state, places = model.begin(batch)
        total = state.tokens
        for stage, block, place in zip(model.stages, model.vit.blocks, places, strict=True):
            state = stage(block, state, place, None)
            total = total + state.tokens
        assert_close(model.forward_features(batch), model.vit.norm(total), 1e-10)


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


def test_prompts_are_vpt_s_without_a_place_in_the_sequence():
    torch.manual_seed(0)
    vpt = tuned.stir(compose(toy(depth=4), "VPT(prompts=3)"))
    model = compose(toy(depth=4), ResTuning(form="prompt", length=3)).eval()
    model.vit.load_state_dict(vpt.vit.state_dict())
    with torch.no_grad():
        for ours, theirs in zip(model.stages, vpt.stages, strict=True):
            ours.after_mixing[0].tokens.copy_(theirs.prompts.prompts)
        assert_close(model(images(model)), vpt(images(model)), 1e-10)


@pytest.mark.parametrize("reducer", [(), ("ToMe(r=4)",)], ids=["whole", "merged"])
def test_a_prefix_is_attention_over_more_keys(reducer):
    model = tuned.stir(compose(toy(depth=2), ResTuning(form="prefix", length=3), *reducer))
    block, stage = model.vit.blocks[0], model.stages[0]
    with torch.no_grad():
        state, places = model.begin(images(model))
        seen = []
        stage.after_mixing[0].register_forward_hook(lambda module, given, out: seen.append((*given, out)))
        stage(block, state, places[0], None)
        _, mixed, attended, out = seen[0]
        step = stage.after_mixing[0]
        keys, values = (
            torch.cat([own, more.expand(2, -1, -1, -1)], 2)
            for own, more in ((attended.keys, step.keys), (attended.values, step.values))
        )
        expected = F.scaled_dot_product_attention(attended.queries, keys, values)
    assert_close(out, expected.transpose(1, 2).flatten(2), 1e-12)
    assert (out - mixed).abs().max() > 1e-3


@pytest.mark.parametrize("form", ["prefix", "prompt"])
@pytest.mark.parametrize("family", ["vit", "siglip", "dinov3", "beit"])
def test_derived_forms_train_save_and_load(form, family, tmp_path: Path):
    text = f"ResTuning(form='{form}', length=2)"
    tuned.check_training(text, "LoRA(rank=2)", family=family)
    tuned.check_round_trip(text, tmp_path, family=family)
    model = tuned.stirred(text, "ToMe(r=2)", family=family)
    with torch.no_grad():
        assert_close(model(images(model)), model.run(images(model))[0], 1e-10)


def test_derived_forms_refuse_what_they_cannot_stand_beside():
    with pytest.raises(ValueError, match="attends through learned masks"):
        compose(toy(depth=4), ResTuning(form="prefix"), "DynamicViT(at=(1,))")
    with pytest.raises(ValueError, match="norms, gates or mixes what its heads give"):
        compose(toy("cait", depth=2), ResTuning(form="prompt"))


def test_it_saves_loads_and_swaps(tmp_path: Path):
    tuned.check_round_trip("ResTuning(length=4)", tmp_path)
    model = tuned.stirred("ResTuning(length=4)")
    vitrim.save(model, tmp_path / "bypass.safetensors")
    other = tuned.stirred("SynQT(queries=2)")
    vitrim.swap(other, tmp_path / "bypass.safetensors")
    assert torch.equal(tuned.logits(other), tuned.logits(model))


def test_costs_count_the_bypass():
    with shapes_only():
        plain, bypass = (costs(compose("vit_base_patch16_224", *m)) for m in ((), ("ResTuning()",)))
    per_token = 12 * 2 * 2 * 768 * 32
    assert bypass.macs_paper - plain.macs_paper == 197 * per_token
    assert bypass.macs - plain.macs == (11 * 197 + 1) * per_token // 12  # the last block's class token alone


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ResTuning(form='side')", "form must be one of 'bypass', 'adapter', 'prefix', 'prompt'"),
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


@pytest.mark.parametrize("name", ["ResTuning()", "SynQT()"])
def test_layers_of_a_side_stream_are_not_ranked(name):
    model = compose(toy(depth=2), name)
    with pytest.raises(ValueError, match="head reads a stream beside"):
        vitrim.prune_layers(model, [(images(model), torch.arange(2))])
