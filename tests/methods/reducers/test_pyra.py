"""PYRA: the release's merge, logits and gradients, its start as plain ToMe, its schedules and refusals."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden import Golden, assert_close, projection
from toys import images, toy

import vitrim
from vitrim import LoRA, ToMe, compose, parse_method
from vitrim.backbones.shapes import shapes_only
from vitrim.methods.reducers.matching import merge_most_similar, unit
from vitrim.methods.reducers.pyra import PYRA, SCHEDULES, MergeModulated
from vitrim.network.model import StagedViT
from vitrim.tokens.state import TokenState, regroup

MODEL = Golden("pyra_lora_d64_s16-12-6-3")


def golden_model() -> tuple[StagedViT, dict[str, str]]:
    """PYRA with LoRA in NOAH's form, and which parameter is which of the release's."""
    h = MODEL.about["hyper"]
    lora = LoRA(rank=h["lora_rank"], roles=("query", "key", "value"), shared=True)
    model = compose(MODEL.backbone(), lora, PYRA(schedule=tuple(h["schedule"])))
    names = {}
    for block in range(4):
        for ours, theirs in (("down", "a"), ("up", "b")):
            name = f"vit.blocks.{block}.attn.qkv.terms.shared.{ours}.weight"
            names[name] = f"blocks.{block}.attn.LoRA_{theirs}.weight"
        for ours, theirs in (
            ("a", "pyra_a"), ("b", "pyra_b"),
            ("norm.weight", "pyra_norm.weight"), ("norm.bias", "pyra_norm.bias"),
        ):  # fmt: skip
            names[f"stages.{block}.reducer.{ours}"] = f"blocks.{block}.{theirs}"
    with torch.no_grad():
        for ours, official in names.items():
            model.get_parameter(ours).copy_(MODEL.weight(official))
    return model.eval(), names


def test_logits_tokens_and_sizes_are_those_of_the_release():
    model, _ = golden_model()
    states: list[TokenState] = []
    for stage in model.stages:
        stage.register_forward_hook(lambda module, inputs, state: states.append(state))
    with torch.no_grad():
        assert_close(model(MODEL.images()), MODEL["logits"])
        states.clear()
        logits, state = model.run(MODEL.images())
    assert_close(logits, MODEL["logits"])
    assert_close(state.sizes, MODEL["size"][:, 1:, 0])
    for block, after in enumerate(states):
        assert_close(projection(after.tokens), MODEL[f"block{block}_proj"])


def test_gradients_are_those_of_the_release():
    model, names = golden_model()
    model.requires_grad_(True).train()
    logits = model(MODEL.images())
    assert_close(logits, MODEL["train_logits"])
    logits.square().mean().backward()
    ours = {official: name for name, official in names.items()}
    for row, official in enumerate(MODEL.about["grad_names"]):
        gradient = model.get_parameter(ours.get(official, f"vit.{official}")).grad
        expected = MODEL["grad_norm"][row]
        found = torch.zeros(()) if gradient is None else gradient.norm()  # unread: the last block's
        assert abs(found - expected) <= 1e-9 * expected + 1e-12, official


def test_one_merge_is_the_release_s_and_without_modulation_plain_tome():
    golden = Golden("pyra_merge_cls_m7")
    c = golden.about["config"]
    generator = np.random.default_rng(golden.about["input_seed"])
    metric, tokens = (
        torch.from_numpy(generator.standard_normal((2, 33, n))) for n in (c["key_dim"], c["dim"])
    )
    sizes = torch.from_numpy(generator.integers(1, 5, (2, 33, 1)).astype(float))
    step = MergeModulated(c["m"], c["dim"], tokens).double()
    with torch.no_grad():
        for ours, official in (("a", "pyra_a"), ("b", "pyra_b")):
            step.get_parameter(ours).copy_(golden.weight(official))
        step.norm.weight.copy_(golden.weight("pyra_norm.weight"))
        step.norm.bias.copy_(golden.weight("pyra_norm.bias"))
    cells = torch.arange(32).expand(2, -1)
    tokens.requires_grad_(True)
    state = TokenState(tokens, 1, sizes[:, 1:, 0], cells, cells, (4, 8))
    after = step(state, SimpleNamespace(patch_keys=lambda: metric[:, 1:]))
    assert_close(after.tokens[:, 1:], golden["y"][:, 1:])
    assert_close(after.sizes, golden["size"][:, 1:, 0])
    assert_close(step(TokenState(**{**vars(state), "by_products": True}), SimpleNamespace(
        patch_keys=lambda: metric[:, 1:])).tokens, after.tokens, 1e-12)  # fmt: skip
    plain = regroup(state, merge_most_similar(unit(metric[:, 1:]), 1, c["m"]))
    assert_close(plain.tokens[:, 1:], golden["y_plain_tome"][:, 1:])
    after.tokens[:, 1:].square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in step.parameters())


@pytest.mark.parametrize("family", ["vit", "distilled", "siglip", "dinov2-registers"])
def test_training_starts_from_plain_tome_exactly(family):
    schedule = [5, 0, 4, 3]
    batch = images(toy(family, depth=4))
    merging = compose(toy(family, depth=4), ToMe(r=schedule))
    for stage in merging.stages:
        if stage.reducer is not None:
            stage.reducer.commutes = False  # all tokens projected, then merged: the same order of sums
    with torch.no_grad():
        modulated = compose(toy(family, depth=4), PYRA(schedule=tuple(schedule)))
        assert torch.equal(modulated(batch), merging(batch))


@pytest.mark.parametrize(
    "form", [LoRA(), LoRA(roles=("query", "key", "value"), shared=True)], ids=["qv", "noah"]
)
@pytest.mark.parametrize(("schedule", "count"), [("low", 322_746), ("high", 322_752)])
def test_count_with_lora_on_vit_base(schedule, count, form):
    with shapes_only():
        model = compose("vit_base_patch16_224", form, PYRA(schedule=schedule))
    assert sum(p.numel() for name, p in model.trained().items() if not name.startswith("vit.head")) == count


@pytest.mark.parametrize(("name", "depth", "distilled"), SCHEDULES)
def test_released_schedules_fit_the_grid_of_224_pixels(name, depth, distilled):
    schedule, left = SCHEDULES[name, depth, distilled], 196
    assert len(schedule) == depth
    for count in schedule:
        assert count <= left // 2
        left -= count
    assert left < 45


def test_the_schedule_goes_by_depth_and_distillation_token():
    with shapes_only():
        deit = compose("deit_base_distilled_patch16_224", "PYRA()")
        large = compose("vit_large_patch16_224", "PYRA(schedule='high')")
    assert [stage.reducer.count for stage in deit.stages] == [16] * 6 + [10] * 6
    assert [stage.reducer.count for stage in large.stages][:3] == [20, 19, 18]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PYRA(schedule='medium')", "schedule must be one of 'low', 'high', got 'medium'"),
        ("PYRA(schedule=8)", "whole numbers of at least 0, one for each block, got 8"),
        ("PYRA(schedule=(8, -1))", "whole numbers of at least 0"),
        ("PYRA(schedule=(0, 0, 0, 0))", "merges nothing"),
        ("PYRA(schedule=(8, 4))", "2 numbers for 4 blocks; give one for each"),
        ("PYRA()", "published for 12 and 24 blocks, and this backbone has 4; give a tuple of 4 numbers"),
        ("PYRA(schedule=(33, 0, 0, 0))", "block 0 is to merge 33 of the 64 patches that reach it"),
        ("PYRA(schedule=(20, 20, 13, 0))", "block 2 is to merge 13 of the 24 patches that reach it"),
    ],
)
def test_schedules_that_cannot_be_are_refused(text, message):
    with pytest.raises(ValueError) as refusal:
        compose(toy(depth=4), text)
    assert message in str(refusal.value)


def test_a_reducer_before_it_counts_too():
    with pytest.raises(ValueError, match="20 of 32 patches are to merge in one block"):
        compose(toy(depth=4), "PYRA(schedule=(0, 0, 20, 0))", "EViT(keep=0.5, at=(1,), fuse='drop')")


def test_with_lora_it_saves_loads_and_merges(tmp_path):
    model = compose(toy(depth=4), LoRA(rank=2), PYRA(schedule=(5, 4, 3, 0)))
    with torch.no_grad():
        for parameter in model.trained().values():
            parameter.add_(torch.rand_like(parameter) * 0.1)
    expected = model(images(model))
    vitrim.save(model, tmp_path / "model.safetensors")
    again = vitrim.load(tmp_path / "model.safetensors", backbone=toy(depth=4))
    assert torch.equal(again(images(model)), expected)
    merged = vitrim.merge(model)
    torch.testing.assert_close(merged(images(model)), expected, rtol=0, atol=1e-10)
    assert merged.methods == (PYRA(schedule=(5, 4, 3, 0)),)
    assert parse_method(repr(model.methods[1])) == model.methods[1]


def test_every_weight_has_a_gradient_where_many_processes_train():
    """Those of a last block too, though they are zero: no process may wait for them."""
    model = compose(toy(depth=4), PYRA(schedule=(5, 4, 3, 3))).train()
    model(images(model)).sum().backward()
    assert all(p.grad is not None for p in model.trained().values())
    for block, name in product((0, 3), ("b", "norm.weight")):
        gradient = model.get_parameter(f"stages.{block}.reducer.{name}").grad
        assert bool(gradient.any()) == (block == 0 and name == "b")  # the norm waits for b to leave zero


def test_chosen_blocks_and_first_blocks_take_their_numbers():
    method = PYRA(schedule=(5, 4, 3, 2), at=(1, 3))
    model = compose(toy(depth=4), method)
    assert [stage.reducer and stage.reducer.count for stage in model.stages] == [None, 4, None, 2]
    assert method.first_blocks(2, 4) == PYRA(schedule=(5, 4), at=(1,)) and method.first_blocks(1, 4) is None
    assert PYRA(schedule="high").first_blocks(2, 12) == PYRA(schedule=(40, 34))
    with pytest.raises(ValueError, match="differs between ViT and distilled DeiT"):
        PYRA().first_blocks(2, 12)
    with pytest.raises(ValueError, match="merges nothing in these blocks"):
        compose(toy(depth=4), PYRA(schedule=(5, 0, 3, 2), at=(1,)))
