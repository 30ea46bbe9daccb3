"""ToMe: golden tokens and indices, every form of the schedule, what merging keeps, precision, refusals."""

import numpy as np
import pytest
import torch
from golden import Golden, assert_close, projection
from hypothesis import given, settings
from hypothesis import strategies as st
from reductions import check_merge, random_state
from torch import Tensor
from toys import images, toy

from vitrim import EViT, ToMe, compose, parse_method
from vitrim.methods.reducers.matching import merge_most_similar, unit
from vitrim.tokens.state import Grouping, TokenState, regroup

CASES = ("tome_r8_prop", "tome_dec8_noprop")


def schedule_of(golden: Golden) -> ToMe:
    h = golden.about["hyper"]
    return ToMe(r=tuple(h["r"]) if h["r_kind"] == "tuple" else h["r"], proportional=h["prop_attn"])


def official_indices(grouping: Grouping, prefix: int) -> tuple[Tensor, Tensor, Tensor]:
    """Unmerged and merged places in the even set and destinations in the odd set, prefix tokens included."""
    merged = grouping.join
    destination = grouping.lead.gather(1, grouping.slots.gather(1, merged))
    odd = (grouping.lead + prefix) % 2 == 1
    rest = [lead[~place] for lead, place in zip(grouping.lead, odd, strict=True)]
    even_prefix = torch.arange(0, prefix, 2)
    unmerged = torch.stack([torch.cat([even_prefix, left + prefix]) // 2 for left in rest])
    return unmerged, (merged + prefix) // 2, (destination + prefix - 1) // 2


@pytest.mark.parametrize("name", CASES)
def test_logits_tokens_indices_and_sources_are_those_of_the_release(name):
    golden = Golden(name)
    method = schedule_of(golden)
    assert method.schedule(4) == golden.about["hyper"]["r_per_block"]
    model = compose(golden.backbone(), method)
    seen, states = {}, []
    for index, stage in enumerate(model.stages):
        stage.register_forward_hook(lambda module, inputs, state: states.append(state))
        if stage.reducer is not None:
            stage.reducer.register_forward_hook(
                lambda module, inputs, out, at=index: seen.update({at: inputs})
            )
    with torch.no_grad():
        assert_close(model(golden.images()), golden["logits"])
        states.clear()
        logits, state = model.run(golden.images())
    assert_close(logits, golden["logits"])
    assert_close(state.sizes, golden["size"][:, 1:])
    source = torch.nn.functional.one_hot(state.source, state.count).transpose(1, 2)
    assert_close(source, golden["source"][:, 1:, 1:])
    for index, after in enumerate(states):
        assert list(after.tokens.shape) == golden[f"block{index}_shape"].tolist()
        assert_close(projection(after.tokens), golden[f"block{index}_proj"])
    merging = [index for index in range(4) if f"block{index}_src_idx" in golden]
    assert sorted(seen) == merging
    for index in merging:
        _, attended = seen[index]
        keys = attended.patch_keys()
        u = torch.from_numpy(np.random.default_rng(777).standard_normal(16)) / 4
        assert_close(keys @ u, golden[f"block{index}_metric_proj"][:, 1:])
        grouping = merge_most_similar(unit(keys), 1, method.schedule(4)[index])
        for ours, kind in zip(official_indices(grouping, 1), ("unm", "src", "dst"), strict=True):
            assert_close(ours, golden[f"block{index}_{kind}_idx"])


@pytest.mark.parametrize(("kind", "prefix"), [("nocls", 0), ("cls", 1), ("dist", 2)])
def test_one_step_keeps_any_prefix_as_the_release_keeps_its_own(kind, prefix):
    golden = Golden("tome_functions")
    generator = np.random.default_rng(209)
    metric, tokens = (torch.from_numpy(generator.standard_normal((2, 17, n))) for n in (8, 5))
    sizes = torch.from_numpy(np.random.default_rng(210).integers(1, 5, (2, 17, 1)).astype(float))
    grouping = merge_most_similar(unit(metric[:, prefix:]), prefix, golden.about["r"])
    unmerged, merged, destination = official_indices(grouping, prefix)
    assert_close(merged, golden[f"{kind}_src_idx"])
    assert_close(destination, golden[f"{kind}_dst_idx"])
    theirs = golden[f"{kind}_unm_idx"].long()
    assert_close(unmerged, theirs.sort(1).values)  # without a class token the release leaves them unsorted
    cells = torch.arange(17 - prefix).expand(2, -1)
    state = TokenState(tokens, prefix, sizes[:, prefix:, 0], cells, cells, (1, 17 - prefix))
    after = regroup(state, grouping)
    order = theirs.argsort(1) if prefix == 0 else torch.arange(len(theirs[0])).expand(2, -1)
    order = torch.cat([order, torch.arange(order.shape[1], 12).expand(2, -1)], dim=1)
    expected = golden[f"{kind}_wavg_x"].gather(1, order[..., None].expand(-1, -1, 5))
    assert_close(after.tokens, expected)
    assert_close(after.sizes, golden[f"{kind}_wavg_size"][..., 0].gather(1, order)[:, prefix:])


def test_schedules_are_those_of_the_release():
    for case, expected in Golden("tome_functions").about["parse_r"].items():
        depth, r = case.split("|")
        method = parse_method(f"ToMe(r={r})")
        assert method.schedule(int(depth)) == expected, case
        assert parse_method(repr(method)) == method and hash(parse_method(repr(method))) == hash(method)


def test_a_list_and_a_pair_are_different_schedules():
    assert ToMe(r=[8, 0]) != ToMe(r=(8, 0))
    assert ToMe(r=[8, 0]).schedule(3) == [8, 0, 0] and ToMe(r=(8, 0)).schedule(3) == [8, 8, 8]


def test_a_kept_share_reduces_every_block_by_it():
    method = ToMe(keep=0.75)
    assert (
        repr(method) == "ToMe(r=None, proportional=True, keep=0.75)" and parse_method(repr(method)) == method
    )
    model = compose(toy(), method)
    counts = [64]
    for stage in model.stages:
        counts.append(stage.reducer.leaving(counts[-1]))
    assert counts[:5] == [64, 48, 36, 27, 21]
    with torch.no_grad():
        assert model.run(images(model))[1].count == counts[-1]


def test_merging_nothing_changes_nothing_and_more_than_half_merges_half():
    vit = toy()
    with torch.no_grad():
        plain = vit(images(vit))
        assert torch.equal(compose(toy(), ToMe(r=0))(images(vit)), compose(toy())(images(vit)))
        assert torch.allclose(compose(toy(), ToMe(r=0))(images(vit)), plain, atol=1e-12)
        model = compose(toy(), ToMe(r=[1000]))
        assert model.stages[0].reducer.leaving(64) == 32 and model.run(images(vit))[1].count == 32


def test_attention_is_weighed_by_size_after_the_first_merge_only():
    model = compose(toy(), ToMe(r=[0, 0, 4, 0, 4]))
    assert [stage.proportional for stage in model.stages] == [False] * 3 + [True] * 9
    assert not any(stage.proportional for stage in compose(toy(), ToMe(proportional=False)).stages)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3), rows=st.integers(1, 5), columns=st.integers(2, 5), prefix=st.integers(0, 5),
    seed=st.integers(0, 99), share=st.floats(0, 1),
)  # fmt: skip
def test_two_steps_preserve_patches_means_and_prefix(batch, rows, columns, prefix, seed, share):
    state = random_state(batch, (rows, columns), prefix, seed=seed)
    for _ in range(2):
        merge = round(share * (state.count // 2))
        if merge == 0:
            return
        after = regroup(state, merge_most_similar(unit(state.trail[0][:, prefix:]), prefix, merge))
        assert after.count == state.count - merge
        check_merge(state, after)
        state = after


def test_a_batch_equals_its_images_one_by_one():
    model = compose(toy("dinov2-registers"), ToMe(r=6))
    batch = images(model, batch=3)
    with torch.no_grad():
        together, state = model.run(batch)
        for index in range(3):
            alone, single = model.run(batch[index : index + 1])
            assert torch.allclose(alone[0], together[index], atol=1e-12)
            assert torch.equal(single.source[0], state.source[index])


@pytest.mark.parametrize("offset", [0.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keys_lose_no_token(dtype, offset):
    keys = (offset + torch.randn(4, 196, 64, generator=torch.Generator().manual_seed(0))).to(dtype)
    grouping = merge_most_similar(unit(keys.float()), 1, 98)
    assert torch.equal(grouping.slots.sort(1).values.unique(), torch.arange(98))
    assert bool((grouping.slots >= 0).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_half_precision_models_lose_no_token(dtype):
    model = compose(toy(dtype=torch.float32), ToMe(r=6))
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        logits, state = model.run(images(model))
    assert bool(logits.isfinite().all()) and bool((state.sizes.sum(1) == 64).all())
    assert state.sizes.dtype == torch.float32 and bool((state.source >= 0).all())
    half = compose(toy(dtype=dtype), ToMe(r=6))
    with torch.no_grad():
        assert bool((half.run(images(half))[1].sizes.sum(1) == 64).all())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ToMe(r=-1)", "r must be a whole number"),
        ("ToMe(r=True)", "r must be a whole number"),
        ("ToMe(r=None)", "r must be a whole number"),
        ("ToMe(r=[8, 0.5])", "r must hold whole numbers"),
        ("ToMe(r=(8, 2))", "inflection from -1 to 1"),
        ("ToMe(r=(8, 8, 8))", "give one number for each block as a list"),
        ("ToMe(keep=0.3)", "at least 0.5"),
        ("ToMe(keep=1)", "below 1"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_method(text)


def test_a_schedule_that_does_not_fit_the_model_is_refused():
    with pytest.raises(ValueError, match="r lists 13 blocks, but the backbone has 12"):
        compose(toy(), ToMe(r=[1] * 13))
    with pytest.raises(ValueError, match="block 3 already has a reducer"):
        compose(toy(), EViT(at=3), ToMe(r=4))
