"""`at`: any method in chosen blocks alone, and several of one kind at disjoint blocks as one composition."""

import re
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from golden import assert_close
from torch import nn
from toys import images, toy
from tuned import logits, stir

from vitrim import (
    METHODS,
    REDUCERS,
    TUNERS,
    Adapter,
    LoRA,
    compose,
    fit,
    load,
    merge,
    parse_method,
    save,
    swap,
)
from vitrim.files.peft_layout import load_peft, save_peft
from vitrim.methods.tuners.vpt import Prompts
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.network.placing import placed
from vitrim.training.fitting import needs_fit

PLACED = [name for name in TUNERS if "at" in {field.name for field in fields(TUNERS[name])}]
ONE_ALONE = {  # a whole network's
    "DenseAdapter": "memories would mix",
    "DyT": "rate is one for all",
    "SynQT": "already reads the side stream of SynQT",
    "ResTuning": "already reads the side stream of ResTuning",
}
SUMMED = ("Adapter", "Convpass")  # two in one block add up, as they always have
IN_PLACE = ("BitFit", "LayerNormTuning", "Full")  # what trains is the backbone's own, named once or twice
OWNING = tuple(name for name in PLACED if name not in (*SUMMED, *IN_PLACE))  # one for each block
SIZES = ("width", "rank", "prompts", "connections")


def backbone() -> nn.Module:
    return toy("vit", depth=4)


def at(name: str, *blocks: int, **settings: Any) -> Method:
    """What fits the toy, in some of its blocks."""
    return replace(METHODS[name].example(compose(backbone())), at=blocks, **settings)


def build(*methods: Method) -> StagedViT:
    torch.manual_seed(0)
    model = compose(backbone(), *methods)
    if needs_fit(model):
        fit(model, [(images(model, batch=6), torch.arange(6) % 5)])
    return model.eval()


def blocks_of(model: StagedViT) -> set[str]:
    """The blocks whose own or added parameters train; other names as they are, without the head."""
    names = {name for name in model.trained() if not name.startswith("vit.head")}
    found = {re.match(r"(?:vit\.blocks|stages)\.(\d+)\.", name) or name for name in names}
    return {each if isinstance(each, str) else each[1] for each in found}


@pytest.mark.parametrize("name", PLACED)
def test_only_these_blocks_change(name):
    model = build(at(name, 1, 2))
    assert {each for each in blocks_of(model) if not each.startswith("shared.")} == {"1", "2"}
    assert model.methods[0].at == (1, 2) and "at=(1, 2)" in repr(model.methods[0])
    assert parse_method(repr(model.methods[0])) == model.methods[0]


@pytest.mark.parametrize("name", PLACED)
def test_all_blocks_by_name_are_all_blocks(name):
    named, whole = build(at(name, 0, 1, 2, 3)), build(replace(at(name, 0), at=None))
    outside = {each for each in whole.trained() if not re.match(r"vit\.blocks|stages|shared|vit\.head", each)}
    assert set(named.trained()) == set(whole.trained()) - outside
    for model in (named, whole):
        stir(model)
    if not outside:
        assert_close(logits(named), logits(whole), 1e-12)


@pytest.mark.parametrize("name", [name for name in PLACED if name not in ONE_ALONE])
def test_several_at_disjoint_blocks_are_one_composition(name, tmp_path):
    first, second, third = at(name, 0), at(name, 1, 3), at(name, 2)
    size = next((each for each in SIZES if hasattr(first, each)), None)
    if size is not None:  # a size of its own for each
        second = replace(second, **{size: 2 * getattr(first, size)})
    model = stir(build(first, second, third))
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors", backbone=backbone())
    assert again.methods == model.methods and torch.equal(logits(again), logits(model))
    merged = merge(model)
    assert_close(logits(merged), logits(model), 1e-10)
    if TUNERS[name].folds:
        assert not merged.shared and set(merged.state_dict()) <= set(model.state_dict())
    other = build(at("LoRA", 0))
    if name not in IN_PLACE:
        swap(other, tmp_path / "model.safetensors")
        assert torch.equal(logits(other.eval()), logits(model))
    model.train().forward(images(model, batch=3)).square().mean().backward()
    silent = [n for n, p in model.trained().items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("name", [name for name in OWNING if name not in (*ONE_ALONE, "FacT", "FisherDelta")])
def test_the_order_of_parts_does_not_matter_and_together_they_are_the_whole(name):
    """FacT shares factors, FisherDelta chooses over all its candidates: no parts of a whole."""
    whole = stir(build(replace(at(name, 0), at=None)))
    blocks = re.compile(r"vit\.blocks|stages|vit\.head")
    values = {key: value for key, value in whole.state_dict().items() if blocks.match(key)}
    for key, value in build().state_dict().items():  # outside the blocks nothing is tuned
        values.setdefault(key, value)
    named = build(at(name, 0, 1, 2, 3))
    named.load_state_dict(values, strict=False)
    for parts in ((at(name, 0, 1), at(name, 2, 3)), (at(name, 2, 3), at(name, 0, 1))):
        model = build(*parts)
        model.load_state_dict(values, strict=False)
        assert_close(logits(model), logits(named), 1e-12)


@pytest.mark.parametrize("name", OWNING)
def test_two_in_one_block_are_refused(name):
    with pytest.raises(ValueError, match=ONE_ALONE.get(name, "already")):
        build(at(name, 0, 1), at(name, 1, 2))


@pytest.mark.parametrize("name", SUMMED)
def test_two_branches_in_one_block_add_up(name):
    model = stir(build(at(name, 0, 1), at(name, 1, 2)))
    beside = [stage.beside_mlp for stage in model.stages]
    assert [len(branches) for branches in beside] == [1, 2, 1, 0]
    before = logits(model)
    with torch.no_grad():
        for parameter in beside[1][1].parameters():
            parameter.zero_()
    assert not torch.equal(logits(model), before)


@pytest.mark.parametrize("name", ONE_ALONE)
def test_what_is_of_the_whole_network_is_refused_twice(name):
    with pytest.raises(ValueError, match=ONE_ALONE[name]):
        build(at(name, 0), at(name, 2))


@pytest.mark.parametrize("name", [*PLACED, *REDUCERS])
def test_blocks_that_are_none_are_refused_in_a_sentence(name):
    for wrong, reason in (((7,), "there is no block 7"), ((-1,), "counted from 0"), ((1, 1), "twice")):
        with pytest.raises(ValueError, match=reason):
            build(at(name, *wrong))


def test_merging_in_chosen_blocks():
    model = build(at("ToMe", 1, 3, r=5))
    assert [index for index, _ in placed(model)] == [1, 3]
    assert [stage.proportional for stage in model.stages] == [False, False, True, True]
    for wrong in ({"r": [1, 2]}, {"r": (4, -1)}):
        with pytest.raises(ValueError, match="give at with a whole number r"):
            at("ToMe", 1, **wrong)


def test_dense_adapters_read_what_there_is():
    """Block 3 reads block 2 and, three back, block 0; block 2 finds none one back and block -1 is none."""
    model = build(at("DenseAdapter", 0, 2, 3))
    assert [[b.reads for b in stage.beside_mlp] for stage in model.stages] == [[()], [], [()], [(1, 2)]]
    one = stir(model)
    with torch.no_grad():
        before = logits(one)
        one.stages[3].beside_mlp[0].down[2].weight.zero_()
        assert not torch.equal(logits(one), before)


def test_prompts_of_other_number_replace_those_before_and_run_on():
    model = build(at("VPT", 0, prompts=5), at("VPT", 2, prompts=2))
    seen: list[int] = []
    for stage in model.stages:
        stage.register_forward_hook(lambda module, given, state: seen.append(state.prefix))
    model.run(images(model))
    assert seen == [6, 6, 3, 3]
    assert [isinstance(stage.prompts, Prompts) for stage in model.stages] == [True, False, True, False]
    with pytest.raises(ValueError, match="before the first block alone"):
        METHODS["VPT"](deep=False, at=(1,))


def test_settings_that_contradict_at_are_refused():
    with pytest.raises(ValueError, match="one rank for each block"):
        LoRA(rank=(2, 0, 2, 2), at=(0,))
    with pytest.raises(ValueError, match="patch=True the patch embedding"):
        METHODS["FisherDelta"](patch=True, at=(0,))
    with pytest.raises(ValueError, match="no such layer"):
        build(METHODS["SSF"](roles=("patch",), at=(0,)))
    with pytest.raises(ValueError, match="these blocks have no bias for patch"):
        build(METHODS["BitFit"](roles=("patch",), at=(0,)))
    with pytest.raises(ValueError, match="keeps some frozen"):
        build(LoRA(at=(2,)), METHODS["Full"](at=(2, 3)))


def test_the_last_blocks_train_whole_and_others_carry_tuners(tmp_path):
    model = stir(build(METHODS["Full"](at=(3,)), LoRA(rank=2, at=(0,)), Adapter(width=2, at=(1,))))
    assert blocks_of(model) == {"0", "1", "3"}
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors", backbone=backbone())
    assert torch.equal(logits(again), logits(model))


def test_low_rank_terms_of_several_blocks_go_to_peft_and_back(tmp_path):
    model = stir(build(LoRA(rank=2, at=(0, 3)), LoRA(rank=4, at=(1,))))
    save_peft(model, tmp_path)
    again = load_peft(tmp_path, backbone())
    assert again.methods == (LoRA(rank=(2, 4, 0, 2)),)
    assert_close(logits(again.eval()), logits(model), 1e-5)
