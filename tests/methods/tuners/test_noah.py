"""NOAH: sub-widths as the release computes them, subnets as ordinary compositions, drawing while training."""

import copy
import random
import zlib

import numpy as np
import pytest
import torch
from golden import Golden, assert_close, projection
from torch import Tensor
from toys import images, toy
from tuned import logits, stir

import vitrim
from vitrim import NOAH, VPT, EViT, LoRA, compose
from vitrim.methods.tuners.noah import choice_of, choose_subnet
from vitrim.methods.tuners.subnet import Space, Subnet
from vitrim.network.model import StagedViT
from vitrim.tokens.state import TokenState

CASES = ("noah_d64_prompt10_lora8_adapter8", "noah_d64_one_block")
OFFICIAL = {
    "stages.{}.prompts.prompts": "visual_prompt_token",
    "vit.blocks.{}.attn.qkv.terms.shared.down.weight": "attn.LoRA_a.weight",
    "vit.blocks.{}.attn.qkv.terms.shared.up.weight": "attn.LoRA_b.weight",
    "stages.{}.after_mlp.0.down.weight": "adapter.ln1.weight",
    "stages.{}.after_mlp.0.down.bias": "adapter.ln1.bias",
    "stages.{}.after_mlp.0.up.weight": "adapter.ln2.weight",
    "stages.{}.after_mlp.0.up.bias": "adapter.ln2.bias",
}


def official(golden: Golden, name: str) -> Tensor:
    if not name.endswith("visual_prompt_token"):
        return golden.weight(name)
    shape = golden.about["params"][name]
    return torch.from_numpy(0.5 * np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)[0])


def supernet(golden: Golden) -> StagedViT:
    """The official weights; where an official tuner is narrower, the slices beyond it are never chosen."""
    model = compose(golden.backbone(), NOAH(widths=(1, 5, 10), sample=False)).eval()
    with torch.no_grad():
        for block in range(model.depth):
            for ours, theirs in OFFICIAL.items():
                value = official(golden, f"blocks.{block}.{theirs}")
                model.get_parameter(ours.format(block))[tuple(slice(0, side) for side in value.shape)] = value
    return model


def subnets(golden: Golden) -> list[Subnet]:
    names = ("visual_prompt_dim", "lora_dim", "adapter_dim")
    return [Subnet(*(tuple(each[name]) for name in names)) for each in golden.about["sub_widths"]]


@pytest.mark.parametrize("case", CASES)
def test_subnets_compute_what_the_release_does(case):
    golden = Golden(case)
    model = supernet(golden)
    states: list[TokenState] = []
    for stage in model.stages:
        stage.register_forward_hook(lambda module, given, state: states.append(state))
    for number, subnet in enumerate(subnets(golden)):
        choose_subnet(model, subnet)
        states.clear()
        with torch.no_grad():
            found, _ = model.run(golden.images())
        assert_close(found, golden[f"sub{number}_logits"])
        for block, state in enumerate(states):  # prompts stand behind the class token here, there at the end
            ours = projection(torch.cat([state.tokens[:, :1], state.tokens[:, state.prefix :]], 1))
            assert_close(ours, golden[f"sub{number}_block{block}_proj"][:, : ours.shape[1]])


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_a_subnet_are_the_releases(case):
    golden = Golden(case)
    model = supernet(golden)
    choose_subnet(model, subnets(golden)[-1])
    model(golden.images()).square().mean().backward()
    for index, name in enumerate(golden.about["grad_names"]):
        block, _, theirs = name.removeprefix("blocks.").partition(".")
        ours = next((key.format(block) for key, value in OFFICIAL.items() if value == theirs), f"vit.{name}")
        if name.startswith("visual_prompt_token"):  # overwritten in block 0: not there
            continue
        gradient = model.get_parameter(ours).grad
        assert gradient is not None, name
        golden_norm = golden["grad_norm"][index]
        assert (gradient.norm() - golden_norm).abs() <= 1e-9 * golden_norm.abs().clamp(min=1e-3), name


def drawn_subnet(model: StagedViT, seed: int) -> Subnet:
    return choice_of(model).space.draw(random.Random(seed).choice)


def slices_into(plain: StagedViT, whole: StagedViT, subnet: Subnet) -> None:
    """The leading slices of the supernet, as the weights of the composition that the subnet says."""
    with torch.no_grad():
        for block, (prompts, rank, width) in enumerate(
            zip(subnet.prompts, subnet.ranks, subnet.widths, strict=True)
        ):
            sizes = {f"stages.{block}.prompts.prompts": (prompts, None)}
            shared = f"vit.blocks.{block}.attn.qkv.terms.shared"
            sizes |= {f"{shared}.down.weight": (rank, None), f"{shared}.up.weight": (None, rank)}
            place, theirs = f"stages.{block}.after_mlp.0", f"stages.{block}.after_mlp.0.adapter"
            sizes |= {f"{place}.down.weight": (width, None), f"{place}.down.bias": (width,)}
            sizes |= {f"{place}.up.weight": (None, width), f"{place}.up.bias": (None,)}
            present = {f"stages.{block}.prompts.prompts": prompts, shared: rank, place: width}
            for name, cut in sizes.items():
                if any(name.startswith(part) and not size for part, size in present.items()):
                    continue
                value = whole.get_parameter(name)[tuple(slice(0, side) for side in cut)]
                plain.get_parameter(name.replace(place, theirs)).copy_(value)


@pytest.mark.parametrize(("family", "seed"), [("vit", 0), ("vit", 1), ("dinov2-registers", 2)])
def test_a_subnet_is_an_ordinary_composition(family, seed, tmp_path):
    whole = stir(compose(toy(family, depth=4), NOAH(widths=(1, 2, 3), sample=False)))
    subnet = drawn_subnet(whole, seed)
    choose_subnet(whole, subnet)
    plain = compose(toy(family, depth=4), *map(repr, subnet.methods())).eval()
    slices_into(plain, whole, subnet)
    plain.vit.head.load_state_dict(whole.vit.head.state_dict())
    assert_close(logits(plain), logits(whole), 1e-12)
    head = {id(parameter) for parameter in plain.vit.head.parameters()}
    count = sum(value.numel() for value in plain.trained().values() if id(value) not in head)
    assert count == subnet.parameters(plain.width)
    vitrim.save(plain, tmp_path / "found.safetensors")
    again = vitrim.load(tmp_path / "found.safetensors", backbone=toy(family, depth=4))
    assert torch.equal(logits(again), logits(plain))


def test_training_draws_a_subnet_a_step_and_the_seed_says_which():
    model = stir(compose(toy(depth=4), NOAH(widths=(1, 2, 3)), EViT(keep=0.5, at=(1,)))).train()
    batch, choice = images(model), choice_of(model)

    def steps(count: int) -> list[Subnet]:
        torch.manual_seed(3)
        found = []
        for _ in range(count):
            model(batch).square().mean().backward()
            found.append(choice.drawn)
        return found

    seen = steps(5)
    assert len(set(seen)) == 5 and steps(5) == seen
    assert {len([size for size in each.prompts if size]) for each in steps(30)} == {1, 2, 3, 4}
    assert all(value.grad is not None for value in model.trained().values())  # zeros where nothing acted
    with torch.no_grad():
        drawn = choice.drawn
        model(batch)
        assert choice.drawn == drawn and choice.subnet == choice.space.largest()  # measured whole
    model.eval()
    assert choice.subnet == choice.space.largest()


def test_recomputed_activations_run_the_same_subnet():
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = stir(compose(toy(depth=4), NOAH(widths=(1, 2, 3)))).train()
        model.set_gradient_checkpointing(checkpointing)
        torch.manual_seed(5)
        model(images(model)).square().mean().backward()
        found.append([value.grad for value in model.trained().values()])
    for one, other in zip(*found, strict=True):
        assert_close(one, other, 1e-10)


def test_merging_folds_low_rank_terms_and_leaves_the_others(tmp_path):
    model = stir(compose(toy(depth=4), NOAH(), sample_free_lora()))
    merged = vitrim.merge(model)
    assert merged.methods == (NOAH(low_rank=False),)
    assert_close(logits(merged), logits(model), 1e-10)
    vitrim.save(merged, tmp_path / "merged.safetensors")
    again = vitrim.load(tmp_path / "merged.safetensors", backbone=toy(depth=4, seed=7))
    assert torch.equal(logits(again), logits(merged))


def sample_free_lora() -> LoRA:
    return LoRA(rank=2, roles=("mlp_in",))


def test_dropout_acts_within_low_rank_terms_and_adapters():
    model = stir(compose(toy(depth=2), NOAH(dropout=0.5, sample=False)))
    given = torch.randn(2, 5, model.width, dtype=torch.float64)
    for part in (model.vit.blocks[0].attn.qkv.terms["shared"], model.stages[0].after_mlp[0]):
        assert torch.equal(part.eval()(given), part(given))
        assert not torch.equal(part.train()(given), part(given))


@pytest.mark.parametrize(("follows", "deviation"), [("paper", 0.0), ("release", 0.02)])
def test_the_start_is_silent_or_the_release_s(follows, deviation):
    trained = compose(toy(depth=2), NOAH(follows=follows)).trained()
    for end, expected in (("up.weight", deviation), ("prompts.prompts", 0.02), ("up.bias", 0.0)):
        values = torch.cat([value.flatten() for name, value in trained.items() if name.endswith(end)])
        assert 0.9 * expected <= values.std(correction=0) <= 1.1 * expected


def test_the_space_of_other_depths():
    assert NOAH().space(12) == Space((1, 5, 10), (3, 6, 9, 12), 12)
    assert NOAH().space(2).depths == (1, 2)
    assert NOAH(widths=[10, 5], depths=2).space(3) == Space((5, 10), (2,), 3)
    assert NOAH().space(12).smallest().parameters(768) == 3 * (768 + 4 * 768 + 2 * 768 + 1 + 768)


MISTAKES = {
    "NOAH(widths=())": "widths must hold each of at least one number once",
    "NOAH(widths=(5, 5))": "once, got (5, 5)",
    "NOAH(widths=(0, 5))": "whole number of at least 1, got 0",
    "NOAH(widths=None)": "widths must be a whole number or a sequence of them, got None",
    "NOAH(dropout=1)": "below 1",
    "NOAH(sample=2)": "True, False",
    "NOAH(follows='code')": "'paper', 'release'",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_settings_are_refused_in_a_sentence(text):
    with pytest.raises(ValueError) as caught:
        vitrim.parse_method(text)
    assert MISTAKES[text] in str(caught.value) and "\n" not in str(caught.value)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="already has prompts"):
        compose(toy(depth=2), VPT(), NOAH())
    with pytest.raises(ValueError, match="already carries LoRA"):
        compose(toy(depth=2), LoRA(), NOAH())
    with pytest.raises(ValueError, match="separate layers here"):
        compose(toy("eva02", depth=2), NOAH())
    with pytest.raises(ValueError, match="fewer than the depth 6"):
        compose(toy(depth=2), NOAH(depths=(3, 6)))
    model = compose(toy(depth=2), LoRA())
    with pytest.raises(ValueError, match="no subnets to choose"):
        choose_subnet(model, Subnet((1, 0), (1, 0), (1, 0)))
    model = compose(toy(depth=2), NOAH())
    for wrong in (Subnet((1,), (1, 0), (1, 0)), Subnet((11, 0), (1, 0), (1, 0))):
        with pytest.raises(ValueError, match="from 0 to 10 for each of 2 blocks"):
            choose_subnet(model, wrong)


def test_copies_choose_for_themselves():
    model = stir(compose(toy(depth=2), NOAH(widths=(1, 3))))
    other = copy.deepcopy(model)
    before = logits(model)
    choose_subnet(other, choice_of(other).space.smallest())
    assert torch.equal(logits(model), before) and not torch.equal(logits(other), before)
