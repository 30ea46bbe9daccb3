"""FPET's matching: golden outputs and gradients, colours of any grid, both forms, no token lost, refusals."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from golden import Golden, assert_close, projection
from hypothesis import given, settings
from hypothesis import strategies as st
from reductions import check_merge, random_state
from torch import nn
from toys import images, toy, wake

from vitrim import Adapter, Bipartite, DenseAdapter, EViT, LoRA, ToMe, compose, parse_method
from vitrim.methods.reducers.matching import (
    alternate,
    checkerboard,
    merge_all,
    merge_all_softly,
    similarity,
    unit,
)
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.tokens.state import TokenState, regroup

CASES = ("fpet_none_dim64_img64", "fpet_lora_b32_d8_img64", "fpet_adaptformer_b1_d32_img64_noprop")


def official_model(golden: Golden) -> tuple[StagedViT, dict[str, nn.Parameter]]:
    """The case composed from our methods with its weights loaded, and our parameters by official name."""
    h = golden.about["hyper"]
    tuner: tuple[Method, ...] = ()
    if h["peft"] == "lora":
        tuner = (LoRA(rank=h["dim"], scale=h["scale"]),)
    elif h["peft"] == "adaptformer":
        tuner = (Adapter(width=h["dim"], scale=h["scale"], bias=False, bits=h["bit"]),)
    model = compose(golden.backbone(), *tuner, Bipartite(at=h["r_layer"], proportional=h["prop_attn"]))
    model = model.double()
    ours = dict(model.named_parameters())
    parameters = {name: ours[our_name(name, list(ours))] for name in golden.about["params"]}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(golden.weight(name))
    return model.eval(), parameters


def our_name(official: str, ours: list[str]) -> str:
    if f"vit.{official}" in ours:
        return f"vit.{official}"
    block = official.split(".")[1]
    end = "down.weight" if "adapter_down" in official else "up.weight"
    kinds = {
        "refinement": ("stages", "reducer"),
        "adapter_mlp": ("stages", "beside_mlp"),
        "lora_q": ("blocks", "query"),
        "lora_v": ("blocks", "value"),
    }
    parts = next(parts for kind, parts in kinds.items() if kind in official)
    found = [n for n in ours if f"{parts[0]}.{block}." in n and parts[1] in n and n.endswith(end)]
    assert len(found) == 1, (official, found)
    return found[0]


@pytest.mark.parametrize("name", CASES)
def test_logits_tokens_sizes_and_matches_are_those_of_the_release(name):
    golden = Golden(name)
    model, _ = official_model(golden)
    block = golden.about["hyper"]["r_layer"]
    seen, states = {}, []
    model.stages[block].reducer.register_forward_hook(
        lambda module, given, _: seen.update(given=given, by=module)
    )
    for stage in model.stages:
        stage.register_forward_hook(lambda module, given, state: states.append(state))
    with torch.no_grad():
        assert_close(model(golden.images()), golden["logits"])
        states.clear()
        logits, state = model.run(golden.images())
    assert_close(logits, golden["logits"])
    assert_close(state.sizes, golden["size"][:, 1:])
    for index, after in enumerate(states):
        assert_close(projection(after.tokens), golden[f"block{index}_proj"])
    entering, attended = seen["given"]
    a, b = checkerboard(entering.position, entering.grid)
    assert torch.equal(a[0] + 1, golden["a_index"]) and torch.equal(b[0] + 1, golden["b_index"][1:])
    with torch.no_grad():
        keys = seen["by"].refine(attended.patch_keys())
    u = torch.from_numpy(np.random.default_rng(777).standard_normal(keys.shape[-1]))
    assert_close(keys @ (u / keys.shape[-1] ** 0.5), golden["refined_metric_proj"][:, 1:])
    best = similarity(unit(keys), a, b).topk(2, dim=-1)
    assert_close(best.indices[..., 0] + 1, golden["assign_top1"])
    assert_close(best.indices[..., 1] + 1, golden["assign_top2"])
    assert_close(best.values[..., 0], golden["top1_score"])
    assert_close(best.values[..., 1], golden["top2_score"])


@pytest.mark.parametrize("name", CASES)
def test_training_loss_and_every_gradient_are_those_of_the_release(name):
    golden = Golden(name)
    model, parameters = official_model(golden)
    model.train().requires_grad_(True)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    logits = model(golden.images())
    logits.square().mean().backward()
    assert_close(logits.detach(), golden["train_logits"])
    assert_close(logits.square().mean().detach(), golden["train_loss"])
    gradients = [parameters[official].grad for official in golden.about["grad_names"]]
    assert_close(torch.stack([gradient.norm() for gradient in gradients]), golden["grad_norm"])
    for gradient, norm, first in zip(gradients, golden["grad_norm"], golden["grad_first8"], strict=True):
        ours = torch.nn.functional.pad(gradient.flatten()[:8], (0, max(0, 8 - gradient.numel())))
        assert (ours - first).abs().max() <= 1e-9 * norm


def colours_of(grid: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Sets A and B cell by cell: even parity in A; each with even columns first, then in raster order."""
    cells = list(product(*map(range, grid)))
    numbered = [(sum(cell) % 2, cell[-1] % 2, index) for index, cell in enumerate(cells)]
    a, b = ([n for n in sorted(numbered) if n[0] == colour] for colour in (0, 1))
    return [n[-1] for n in a], [n[-1] for n in b]


@pytest.mark.parametrize(
    "grid",
    [(14, 14), (7, 7), (24, 24), (8, 4), (14, 7), (16, 12), (8, 2), (12, 6), (1, 9), (3, 4, 4), (3, 3, 5)],
)
def test_a_full_grid_of_any_shape_is_split_by_colour(grid):
    cells = torch.arange(math.prod(grid)).expand(2, -1)
    a, b = checkerboard(cells, grid)
    assert [a[1].tolist(), b[1].tolist()] == list(colours_of(grid))
    if grid == (14, 14):
        assert a.shape[1] == b.shape[1] == 98


def test_colours_follow_the_cells_when_tokens_were_moved():
    position = torch.stack([torch.randperm(36)[:20] for _ in range(8)])
    a, b = checkerboard(position, (6, 6))
    for cells, even, odd in zip(position, a, b, strict=True):
        assert sorted([*even.tolist(), *odd.tolist()]) == list(range(20)) and len(even) == 10
        colour = (cells // 6 + cells % 6) % 2
        surplus = int((colour == 0).sum()) - 10  # only these few can be in the set of the other colour
        assert int(colour[even].sum()) == max(0, -surplus) and int((colour[odd] == 0).sum()) == max(
            0, surplus
        )


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("count", [16, 17])
def test_turns_count_from_the_first_token_of_the_sequence(prefix, count):
    a, b = alternate(torch.arange(count).expand(1, -1), prefix)
    assert bool(((a + prefix) % 2 == 0).all()) and a.shape[1] == count // 2
    assert sorted([*a[0].tolist(), *b[0].tolist()]) == list(range(count))


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3), rows=st.integers(2, 5), columns=st.integers(2, 5), prefix=st.integers(0, 5),
    seed=st.integers(0, 99), turns=st.booleans(),
)  # fmt: skip
def test_both_forms_of_the_merge_are_equal_and_preserve_everything(batch, rows, columns, prefix, seed, turns):
    state = random_state(batch, (rows, columns), prefix, seed=seed)
    state = replace(state, trail=state.trail[:1])
    a, b = alternate(state.position, prefix) if turns else checkerboard(state.position, state.grid)
    scores = similarity(unit(state.trail[0][:, prefix:]), a, b)
    after, dense = (regroup(state, merge(scores, a, b)) for merge in (merge_all, merge_all_softly))
    check_merge(state, after)
    assert torch.equal(dense.source, after.source) and torch.equal(dense.position, after.position)
    assert torch.allclose(dense.sizes, after.sizes, rtol=0, atol=1e-12)
    assert torch.allclose(dense.tokens, after.tokens, rtol=0, atol=1e-12)
    assert torch.allclose(dense.trail[0], after.trail[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "family", ["vit", "distilled", "siglip", "dinov2-registers", "dinov3", "rectangular"]
)
@pytest.mark.parametrize("split", ["checkerboard", "alternate"])
def test_training_and_evaluation_compute_the_same_and_everything_learns(family, split):
    model = wake(compose(toy(family), Bipartite(split=split, dropout=0.0), DenseAdapter(width=4))).eval()
    batch = images(model)
    with torch.no_grad():
        logits, state = model.run(batch)
    assert state.count == state.source.shape[1] // 2 and bool((state.source >= 0).all())
    learned, learning = model.train().run(batch)
    assert torch.allclose(learned, logits, rtol=0, atol=1e-10)
    assert torch.allclose(learning.sizes, state.sizes, atol=1e-12) and learning.sizes.requires_grad
    assert torch.equal(learning.source, state.source)
    learned.square().mean().backward()
    assert not [name for name, p in model.trained().items() if p.grad is None or not p.grad.abs().sum() > 0]


def gradient_of_key_weights(method: Bipartite) -> torch.Tensor:
    """What the loss says to the weights that make the keys of the matching block, in training."""
    model = wake(compose(toy(), method)).train().requires_grad_(True)
    model(images(model)).square().mean().backward()
    return model.vit.blocks[6].attn.qkv.weight.grad


def test_matching_reaches_the_keys_only_without_the_stop():
    stopped, open_ = (gradient_of_key_weights(Bipartite(dropout=0.0, stop_gradient=s)) for s in (True, False))
    model = (
        wake(compose(toy(), Bipartite(dropout=0.0))).eval().requires_grad_(True)
    )  # indices: no gradient at all
    model(images(model)).square().mean().backward()
    assert torch.allclose(model.vit.blocks[6].attn.qkv.weight.grad, stopped, atol=1e-10)
    assert not torch.allclose(open_, stopped, atol=1e-6)


def test_the_ablations_have_nothing_to_learn_and_training_changes_nothing():
    model = compose(toy(), Bipartite(learned=False)).train()
    assert not [name for name in model.trained() if "reducer" in name]
    with torch.no_grad():
        assert torch.equal(model(images(model)), model.eval()(images(model)))
    half = compose(toy(), Bipartite(learned=False, split="alternate", proportional=False))
    merged = compose(toy(), ToMe(r=[0] * 6 + [1000], proportional=False))
    with torch.no_grad():  # single-layer matching is one ToMe step that merges all it can
        assert torch.allclose(half(images(half)), merged(images(half)), atol=1e-12)
    two = compose(toy(), Bipartite(at=(3, 6), split="alternate"))
    with torch.no_grad():
        assert two.run(images(two))[1].count == 16


def test_the_start_is_small_but_not_silent_in_one_bit_and_silent_in_floats():
    keys = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))
    for bits in (1, 2, None):
        model = compose("vit_tiny_patch16_224", Bipartite(bits=bits))
        refine = model.stages[6].reducer.refine
        assert sum(p.numel() for p in refine.parameters()) == 4096
        change = (refine.eval()(keys) - keys).abs().max().item()
        assert change == 0 if bits is None else 1e-4 < change < 0.1


@pytest.mark.parametrize("family", ["vit", "distilled", "siglip", "dinov2-registers", "dinov3"])
def test_reducers_stack_with_tuners(family):
    ranking = EViT(keep=0.7, at=3, score="received" if family == "siglip" else "class")
    stack = ranking, ToMe(r=[0] * 6 + [4, 4, 4]), Bipartite(at=9)
    model = wake(compose(toy(family), LoRA(rank=2), *stack, DenseAdapter(width=4))).eval()
    seen: list[tuple[TokenState, TokenState]] = []
    for index in (6, 7, 8, 9):
        reducer = model.stages[index].reducer
        reducer.register_forward_hook(lambda module, given, after: seen.append((given[0], after)))
    with torch.no_grad():
        logits, state = model.run(images(model))
    assert bool(logits.isfinite().all())
    assert [after.count for _, after in seen] == [42, 38, 34, 17]  # 64 -> 46 with the fused token -> 17
    for before, after in seen:
        early = 8 * (before.count - after.count) >= before.count  # few that leave are projected too
        assert (
            len(before.trail) == len(after.trail) == 3 + early
        )  # earlier adapter outputs, and the attention's
        check_merge(before, after, tolerance=1e-10)
    assert state.prefix == model.vit.num_prefix_tokens


@pytest.mark.parametrize("earlier", ["ToMe(r=[3, 0, 5])", "Pool(at=(2,))", "EViT(keep=0.6, at=(1,))"])
def test_a_batch_equals_its_images_one_by_one_behind_other_reducers(earlier):
    model = wake(compose(toy(), earlier, Bipartite())).eval()
    batch = images(model, batch=3)
    with torch.no_grad():
        together, state = model.run(batch)
        for index in range(3):
            alone, single = model.run(batch[index : index + 1])
            assert torch.allclose(alone[0], together[index], atol=1e-10)
            assert torch.equal(single.source[0], state.source[index])


@pytest.mark.parametrize("offset", [0.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keys_lose_no_token_where_the_released_rule_does(dtype, offset):
    keys = (offset + torch.randn(4, 196, 64, generator=torch.Generator().manual_seed(0))).to(dtype)
    a, b = checkerboard(torch.arange(196).expand(4, -1), (14, 14))
    scores = similarity(unit(keys.float()), a, b)
    for grouping in (merge_all(scores, a, b), merge_all_softly(scores, a, b)):
        assert bool((grouping.slots >= 0).all())
        if grouping.member is not None:
            assert torch.equal(grouping.member.sum(1), torch.ones(4, 196))
    low = similarity(unit(keys), a, b)
    released = (low - low.topk(2, dim=-1).values.mean(-1, keepdim=True)).sigmoid() > 0.5
    assert not bool(released.any(-1).all())  # the released rule in this precision does lose some


def test_equal_keys_take_the_first_partner_and_none_is_lost():
    a, b = checkerboard(torch.arange(16).expand(1, -1), (4, 4))
    scores = similarity(unit(torch.ones(1, 16, 8)), a, b)
    for grouping in (merge_all(scores, a, b), merge_all_softly(scores, a, b)):
        assert bool((grouping.slots.gather(1, a) == 0).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [False, True])
def test_autocast_and_half_precision_models_lose_no_token(dtype, training):
    model = wake(compose(toy(dtype=torch.float32), Bipartite())).train(training)
    with torch.autocast("cpu", dtype=dtype):
        logits, state = model.run(images(model))
    assert bool(logits.isfinite().all()) and bool((state.sizes.sum(1) == 64).all())
    half = wake(compose(toy(dtype=dtype), Bipartite())).train(training)
    logits, state = half.run(images(half))
    assert bool(logits.isfinite().all()) and bool((state.sizes.sum(1) == 64).all())


def test_its_text_reads_back():
    text = "Bipartite(at=(6,), learned=True, hidden=32, bits=1, split='checkerboard', stop_gradient=True, "
    assert repr(Bipartite()) == text + "proportional=True)"
    for method in (Bipartite(), Bipartite(at=4, bits=None, dropout=0.0, normalise_keys=False)):
        assert parse_method(repr(method)) == method


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        (("Bipartite(at=(3, 6))",), "after one checkerboard all tokens left are of one colour"),
        (("Bipartite()", "Bipartite(at=3, learned=False)"), "after one checkerboard"),
        (("Bipartite(at=11)",), "nothing would be learned in the last block"),
        (("Bipartite(at=12)",), "there is no block 12"),
        (("ToMe()", "Bipartite()"), "block 6 already has a reducer"),
        (("Bipartite(bits=3)",), "bits must be one of 1, 2, 4, 8, None"),
        (("Bipartite(split='random')",), "split must be one of 'checkerboard', 'alternate'"),
        (("Bipartite(hidden=0)",), "hidden must be a whole number"),
        (("Bipartite(dropout=1.0)",), "dropout must be at least 0 and below 1"),
        (("ToMe(r=[32, 16, 8, 4, 2])", "Bipartite()"), "2 patch tokens are too few"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(methods, sentence):
    with pytest.raises(ValueError, match=sentence):
        compose(toy(), *methods)
