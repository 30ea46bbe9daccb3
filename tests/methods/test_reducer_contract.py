"""What every token reducer owes every supported backbone, whatever the precision. New reducers join by their
table row; what else has to be known of them is found from `Method.example` and their parts.
"""

import copy
from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch
from blocks import states_after_blocks
from casting import Mould
from toys import FAMILIES, images, toy, wake

from vitrim import REDUCERS, LoRA, compose, costs
from vitrim.backbones.shapes import shapes_only
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.network.placing import placed
from vitrim.network.stage import Reducer, Selector

FEW = ("vit", "dinov3", "siglip")  # where a check takes seconds
PRECISIONS = (None, torch.bfloat16, torch.float16)  # float32 as it is, and autocast


# Budgets per image of the reducers that have them, with levels by hand: further rows for all that is promised
BUDGETS = {
    "EViT by mass": ("EViT", "mass"),
    "EViT by sampling": ("EViT", "sampled"),
    "DynamicViT by mass": ("DynamicViT", "mass"),
}
LEVELS = {"mass": 0.8, "sampled": 40}
EVERY = (*REDUCERS, *BUDGETS)
ON_BACKBONES = [*product(REDUCERS, FAMILIES), *product(BUDGETS, FEW)]


@cache
def bare(family: str, depth: int = 12) -> StagedViT:
    return compose(toy(family, depth=depth))


def method_for(name: str, family: str, depth: int = 12) -> Method:
    if name not in BUDGETS:
        return REDUCERS[name].example(bare(family, depth))
    kind, budget = BUDGETS[name]
    method = REDUCERS[kind].example(bare(family, depth))
    return replace(method, budget=budget, levels=(LEVELS[budget],) * len(method.at))


@cache
def mould(name: str, family: str, depth: int) -> Mould:
    torch.default_generator.manual_seed(0)
    return Mould(compose(toy(family, depth=depth), method_for(name, family, depth)).eval())


def build(name: str, family: str = "vit", depth: int = 4) -> StagedViT:
    """The reducer on the toy, with the same random start each time."""
    model: StagedViT = mould(name, family, depth).cast()
    torch.default_generator.manual_seed(0)  # what is drawn next does not depend on who was built before
    return model


def parts_of(name: str) -> list[Selector | Reducer]:
    return [part for _, part in placed(build(name, depth=12))]


# Shapes depend on the image, or do not; weights train, or do not
STATIC = [name for name in EVERY if all(getattr(part, "static", True) for part in parts_of(name))]
LEARNING = [name for name in EVERY if any(list(part.parameters()) for part in parts_of(name))]


@pytest.mark.parametrize("name", REDUCERS)
def test_it_stands_in_the_table_it_belongs_to(name: str) -> None:
    assert REDUCERS[name].reduces, f"write reduces: ClassVar[bool] = True in {name}"
    assert parts_of(name), f"{name} puts no reducer on any block of a backbone of 12: see Method.example"


def declared(model: StagedViT) -> list[int]:
    """Patch tokens leaving each block, by what the reducers say about themselves."""
    count = model.patch_count
    counts, parts = [], dict(placed(model))
    for index in range(model.depth):
        part = parts.get(index)
        if part is not None:
            count = (
                part.leaving(count, model.patch_count) if isinstance(part, Selector) else part.leaving(count)
            )
        counts.append(count)
    return counts


def check_states(model: StagedViT, batch: torch.Tensor) -> None:
    """As many tokens as declared, every patch accounted for, all finite."""
    depends = any(not getattr(part, "static", True) for _, part in placed(model))
    for state, count in zip(states_after_blocks(model, batch), declared(model), strict=True):
        assert state.count <= model.patch_count if depends else state.count == count
        lost = (state.source < 0).sum(1)
        assert torch.equal(state.sizes.sum(1).round().long() + lost, torch.full_like(lost, model.patch_count))
        assert torch.isfinite(state.tokens).all()
        assert (state.source < state.count).all() and (state.position < model.patch_count).all()


@pytest.mark.parametrize(("name", "family"), ON_BACKBONES)
def test_tokens_and_logits_in_every_precision(name: str, family: str) -> None:
    model = build(name, family)
    batch = images(model)
    with torch.no_grad():
        logits = model(batch)
        torch.testing.assert_close(
            model.run(batch)[0], logits, rtol=0, atol=1e-10
        )  # the last block's short path
    check_states(model, batch)
    model, batch = model.float(), batch.float()
    for autocast in PRECISIONS if family in FEW else PRECISIONS[:2]:
        with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None), torch.no_grad():
            check_states(model, batch)
            assert torch.isfinite(model(batch)).all()
            if autocast is None:
                torch.testing.assert_close(model(batch).double(), logits, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("name", "family"), ON_BACKBONES)
def test_training_reaches_every_trained_weight(name: str, family: str) -> None:
    torch.manual_seed(0)
    model = compose(toy(family, depth=4), method_for(name, family, depth=4), LoRA(rank=2)).train()
    with torch.no_grad():
        for weight, parameter in model.trained().items():
            if weight.endswith("merge_above"):
                parameter.fill_(0.2)  # as released, this threshold learns from tokens that merge alone
            parameter.add_(
                torch.rand_like(parameter) * 0.01
            )  # LoRA starts at zero, with half of its gradients
    logits, penalty = model.forward_with_penalty(images(model))
    loss = logits.square().mean() + (0 if penalty is None else penalty)
    loss.backward()
    silent = [n for n, p in model.trained().items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent
    assert all(torch.isfinite(p.grad).all() for p in model.trained().values())


@pytest.mark.parametrize("family", FEW)
@pytest.mark.parametrize("name", EVERY)
def test_a_batch_is_its_images(name: str, family: str) -> None:
    model = build(name, family)
    batch = images(model, batch=3)
    with torch.no_grad():
        singles = torch.cat([model(batch[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(model(batch), singles, rtol=0, atol=1e-10)


def shallow(name: str, family: str, *tuners: str, depth: int = 2, dtype: torch.dtype) -> StagedViT:
    """Two blocks, the first of which reduces: what a compiler needs to see."""
    return compose(toy(family, dtype, depth=depth), method_for(name, family, depth=depth), *tuners)


# A tuner of each kind under another reducer; LoRA and Adapter are compiled in tests/network too
COMPILED_WITH = {
    "EViT": "DyT(width=2)",
    "ToMe": "SynQT(queries=2)",
    "Pool": "ResTuning(length=2)",
    "DynamicViT": "VPT(prompts=2)",
    "Bipartite": "DenseAdapter(width=2)",
}


@pytest.mark.parametrize("name", STATIC)
def test_compiles_whole(name: str) -> None:
    """Into one graph, which is run as it is: what torch makes of one is tried in tests/network, and in
    tests/deploy, where what compiles is exported."""
    tuner = COMPILED_WITH.get(name, "LoRA(rank=2)")
    depth = 4 if tuner.startswith("DenseAdapter") else 2  # it reads three blocks back
    model = wake(shallow(name, "dinov3", tuner, depth=depth, dtype=torch.float64)).eval()
    torch.compiler.reset()
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(images(model)), model(images(model)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", LEARNING)
def test_training_what_learns_compiles_whole(name: str) -> None:
    model = wake(shallow(name, "average", depth=1, dtype=torch.float32)).train()  # logits of all tokens
    batch, gradients = images(model), []
    torch.compiler.reset()
    compiled = torch.compile(model.forward_with_penalty, fullgraph=True, backend="aot_eager")
    for run in (model.forward_with_penalty, compiled):
        torch.manual_seed(0)
        model.zero_grad()
        logits, penalty = run(batch)
        (logits.square().mean() + (0 if penalty is None else penalty)).backward()
        gradients.append({n: p.grad.clone() for n, p in model.trained().items()})
    for weight, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][weight], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_costs_need_no_values(name: str) -> None:
    with shapes_only():
        model = compose(FAMILIES["vit"](), method_for(name, "vit"))
    counted = costs(model)
    assert list(counted.tokens) == [1 + count for count in declared(model)]
    plain = costs(compose(toy("vit")))
    assert (counted.macs_paper < plain.macs_paper) == (name in STATIC or name in BUDGETS)  # at the mean
    assert counted.by_image == (name not in STATIC)


@pytest.mark.parametrize("name", EVERY)
def test_checkpointing_and_copies_change_nothing(name: str) -> None:
    model = compose(toy("vit", depth=4), method_for(name, "vit", depth=4), LoRA(rank=2)).train()
    twin, batch, found = copy.deepcopy(model), images(model), []
    twin.set_gradient_checkpointing()
    for composed in (model, twin):
        torch.manual_seed(0)
        logits, penalty = composed.forward_with_penalty(batch)
        (logits.square().mean() + (0 if penalty is None else penalty)).backward()
        found.append([logits.detach(), *(p.grad for p in composed.trained().values())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
