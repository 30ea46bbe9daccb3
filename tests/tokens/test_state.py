"""What every reduction keeps true, and the way back to the full grid."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys import images, toy

import vitrim
from vitrim import LTMP, EViT, Pool, TokenState, ToMe, compose, restore
from vitrim.methods.reducers.evit import keep_best
from vitrim.methods.reducers.matching import joined
from vitrim.tokens.state import Grouping, regroup, take_rows

KINDS = ("drop", "mean", "argmax", "merge", "matrix")
MERGING = ("merge", "matrix")


def start(batch: int, prefix: int, grid: tuple[int, ...], seed: int = 0) -> TokenState:
    count = grid[0] * grid[1]
    tokens = torch.randn(
        batch, prefix + count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return replace(TokenState.start(tokens, prefix, grid), trail=(tokens * 2,), history=())


def grouping(kind: str, batch: int, count: int, seed: int) -> Grouping:
    """A random reduction of the kind; matrix says a merge in the differentiable form."""
    generator = torch.Generator().manual_seed(seed)
    left = 1 + seed % max(1, count - 1)
    if kind not in MERGING:
        return keep_best(torch.rand(batch, count, generator=generator, dtype=torch.float64), left, kind)
    order = torch.rand(batch, count, generator=generator).argsort(1)
    target = torch.randint(left, (batch, count - left), generator=generator)
    group = joined(order[:, :left], order[:, left:], target)
    if kind == "merge":
        return group
    member = (group.slots[:, None] == torch.arange(left)[:, None]).double()  # [B, M, N]
    return replace(group, member=member)


cases = st.tuples(
    st.integers(1, 3),
    st.integers(0, 2),
    st.tuples(st.integers(1, 4), st.integers(2, 4)),
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 999)), min_size=1, max_size=3),
)


def reduce(state: TokenState, steps: list[tuple[str, int]]) -> tuple[TokenState, list[Grouping]]:
    done = []
    for kind, seed in steps:
        if state.count > 1:
            done.append(grouping(kind, len(state.tokens), state.count, seed))
            state = regroup(state, done[-1])
    return state, done


@settings(max_examples=60, deadline=None)
@given(cases)
def test_every_patch_is_counted_once(case: tuple) -> None:
    batch, prefix, grid, steps = case
    before = start(batch, prefix, grid)
    after, _ = reduce(before, steps)
    for image in range(batch):
        alive = after.source[image][after.source[image] >= 0]
        counted = torch.bincount(alive, minlength=after.count).double()
        torch.testing.assert_close(counted, after.sizes[image], rtol=0, atol=1e-9)
    lost = (after.source < 0).sum(1)
    torch.testing.assert_close(after.sizes.sum(1) + lost, torch.full((batch,), float(before.count)).double())
    if all(kind in (*MERGING, "mean") for kind, _ in steps):
        assert not lost.any()


@settings(max_examples=40, deadline=None)
@given(cases)
def test_prefix_untouched_and_trail_aligned(case: tuple) -> None:
    batch, prefix, grid, steps = case
    before = start(batch, prefix, grid)
    after, _ = reduce(before, steps)
    assert torch.equal(after.tokens[:, :prefix], before.tokens[:, :prefix])
    assert torch.equal(after.trail[0], after.tokens * 2)  # doubling is exact, so alignment is too


@settings(max_examples=40, deadline=None)
@given(cases)
def test_source_composes_in_any_order(case: tuple) -> None:
    batch, prefix, grid, steps = case
    after, done = reduce(start(batch, prefix, grid), steps)

    def then(first: Tensor, second: Tensor) -> Tensor:
        return torch.where(first < 0, -1, second.gather(1, first.clamp(min=0)))

    slots = [group.slots for group in done]
    left = right = slots[0] if slots else after.source
    for step in slots[1:]:
        left = then(left, step)
    if len(slots) > 1:
        tail = slots[-1]
        for step in reversed(slots[1:-1]):
            tail = then(step, tail)
        right = then(slots[0], tail)
    assert torch.equal(left, right)
    assert torch.equal(left, after.source)


@settings(max_examples=40, deadline=None)
@given(cases)
def test_merging_keeps_the_mean_weighted_by_size(case: tuple) -> None:
    batch, prefix, grid, steps = case
    before = start(batch, prefix, grid)
    after, _ = reduce(before, [(MERGING[seed % 2], seed) for _, seed in steps])
    member = (after.source[:, None] == torch.arange(after.count)[:, None]).double()  # [B, M, N0]
    means = member @ before.tokens[:, prefix:] / member.sum(2, keepdim=True)
    torch.testing.assert_close(after.tokens[:, prefix:], means, rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(cases)
def test_a_token_alone_moves_bit_for_bit(case: tuple) -> None:
    batch, prefix, grid, steps = case
    before = start(batch, prefix, grid)
    after, _ = reduce(before, steps)
    for image, patch in zip(*torch.where(after.source >= 0), strict=True):
        slot = after.source[image, patch]
        if (after.source[image] == slot).sum() == 1 and "mean" not in dict(steps):
            assert torch.equal(after.tokens[image, prefix + slot], before.tokens[image, prefix + patch])
            assert after.position[image, slot] == patch


@settings(max_examples=40, deadline=None)
@given(cases)
def test_a_batch_is_its_images(case: tuple) -> None:
    batch, prefix, grid, steps = case
    before = start(batch, prefix, grid)
    after, done = reduce(before, steps)
    for image in range(batch):
        row = slice(image, image + 1)
        single = replace(
            before,
            tokens=before.tokens[row], trail=(before.trail[0][row],), sizes=before.sizes[row],
            position=before.position[row], source=before.source[row],
        )  # fmt: skip
        for group in done:
            parts = (group.slots, group.lead, group.join, group.fuse, group.member)
            single = regroup(single, Grouping(*(None if part is None else part[row] for part in parts)))
        torch.testing.assert_close(single.tokens, after.tokens[row], rtol=0, atol=1e-14)
        assert torch.equal(single.source, after.source[row])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from(KINDS))
def test_order_of_tokens_does_not_matter(seed: int, kind: str) -> None:
    before = start(2, 1, (3, 4))
    shuffle = torch.rand(2, 12, generator=torch.Generator().manual_seed(seed)).argsort(1)  # new place -> old
    back = shuffle.argsort(1)
    group = grouping(kind, 2, 12, seed)
    moved = replace(
        before,
        tokens=torch.cat([before.tokens[:, :1], take_rows(before.tokens[:, 1:], shuffle)], dim=1),
        trail=(),
        position=before.position.gather(1, shuffle),
        source=back,
    )  # fmt: skip
    same = Grouping(
        group.slots.gather(1, shuffle),
        back.gather(1, group.lead),
        None if group.join is None else back.gather(1, group.join),
        None if group.fuse is None else group.fuse.gather(1, shuffle),
        None
        if group.member is None
        else group.member.gather(2, shuffle[:, None].expand(-1, group.member.shape[1], -1)),
    )
    one, other = regroup(before, group), regroup(moved, same)
    torch.testing.assert_close(one.tokens, other.tokens, rtol=0, atol=1e-13)
    assert torch.equal(one.source, other.source) and torch.equal(one.position, other.position)


@settings(max_examples=30, deadline=None)
@given(cases)
def test_indices_and_matrix_merge_alike(case: tuple) -> None:
    batch, prefix, grid, steps = case
    before, seed = start(batch, prefix, grid), steps[0][1]
    by_index = regroup(before, grouping("merge", batch, before.count, seed))
    by_matrix = regroup(before, grouping("matrix", batch, before.count, seed))
    torch.testing.assert_close(by_index.tokens, by_matrix.tokens, rtol=0, atol=1e-13)
    torch.testing.assert_close(by_index.sizes, by_matrix.sizes)


def on_grid(state: TokenState, tokens: Tensor) -> Tensor:
    return tokens[:, state.prefix :].transpose(1, 2).unflatten(2, state.grid)


@settings(max_examples=30, deadline=None)
@given(cases)
def test_restore_undoes_a_reduction_after_which_nothing_happened(case: tuple) -> None:
    batch, prefix, grid, steps = case
    before = start(batch, prefix, grid)
    after, _ = reduce(before, steps)
    assert torch.equal(restore(after, "delta"), on_grid(before, before.tokens))
    assert restore(after, "copy").shape == restore(after, "knn").shape == (batch, 3, *grid)


def test_copy_puts_every_token_where_its_patches_were() -> None:
    before = start(1, 1, (2, 2))
    after = regroup(before, keep_best(torch.tensor([[0.4, 0.1, 0.3, 0.2]]).double(), 2, "drop"))
    after = replace(after, tokens=after.tokens + 1)  # what blocks did since
    patches = before.tokens[:, 1:]
    expected = torch.stack([patches[0, 0] + 1, patches[0, 1], patches[0, 2] + 1, patches[0, 3]])[None]
    torch.testing.assert_close(restore(after, "copy"), expected.transpose(1, 2).unflatten(2, (2, 2)))
    zero = restore(after, "copy", dropped="zero")
    assert not zero[0, :, 0, 1].any() and not zero[0, :, 1, 1].any()


@pytest.mark.parametrize("mode", ["copy", "delta"])
def test_without_reduction_restoring_changes_nothing(mode: str) -> None:
    model = compose(toy("dinov3", depth=3), EViT(keep=1.0, at=1, score="received"))
    _, state = model.run(images(model), history=True)
    assert torch.equal(restore(state, mode), on_grid(state, state.tokens))


@pytest.mark.parametrize(
    "method", [EViT(at=(1, 2), keep=0.6), ToMe(r=8), Pool(at=2, window=2), Pool(at=1, kind="max")]
)
def test_delta_comes_closer_to_the_whole_model_than_copy(method: vitrim.EViT) -> None:
    whole, reduced = compose(toy("vit", depth=4)), compose(toy("vit", depth=4), method)
    with torch.no_grad():
        full = restore(whole.run(images(whole))[1], "copy")
        _, state = reduced.run(images(reduced), history=True)
    error = {mode: (restore(state, mode) - full).square().mean() for mode in ("delta", "copy", "knn")}
    assert error["delta"] < error["copy"]
    assert all(torch.isfinite(value) for value in error.values())


def test_restoring_padded_batches_equals_single_images() -> None:
    model = compose(toy("vit", depth=4), LTMP())
    with torch.no_grad():
        for stage in model.stages:
            stage.reducer.merge_above.fill_(0.6)
            stage.reducer.prune_below.fill_(0.013)
        batch = images(model, batch=3)
        together = model.run(batch, history=True)[1]
        for mode in ("delta", "copy", "knn"):
            for image in range(3):
                single = model.run(batch[image : image + 1], history=True)[1]
                assert single.count < 64
                torch.testing.assert_close(
                    restore(together, mode)[image], restore(single, mode)[0], rtol=0, atol=1e-10
                )


def test_gradients_pass_restore_and_values_can_be_restored() -> None:
    model = compose(toy("vit", depth=3), EViT(at=1))
    batch = images(model).requires_grad_()
    _, state = model.run(batch, history=True)
    restore(state).square().sum().backward()
    assert batch.grad is not None and batch.grad.abs().sum() > 0
    assert restore(state, "copy", values=state.tokens[:, 1:, :2]).shape == (2, 2, 8, 8)


def test_what_restore_cannot_do_it_says() -> None:
    model = compose(toy("vit", depth=3), EViT(at=1, fuse="drop"))
    _, state = model.run(images(model))
    with pytest.raises(ValueError, match="delta needs what every reduction did; get the state from run"):
        restore(state)
    with pytest.raises(ValueError, match="some patches were dropped"):
        restore(state, "copy")
    with pytest.raises(ValueError, match="mode must be one of 'delta', 'copy', 'knn', got 'nearest'"):
        restore(state, "nearest")
