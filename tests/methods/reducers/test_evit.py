"""EViT against the released code and the paper's equations, its scores, its schedule, its refusals."""

import pytest
import torch
from blocks import states_after_blocks
from golden import Golden, assert_close
from toys import images, toy

from vitrim import EViT, ToMe, compose, parse_method
from vitrim.backbones.heads import pool_attention
from vitrim.methods.reducers.evit import KeepAttended, share_at
from vitrim.network.stage import Stage

CASES = {
    "evit_r7_fuse": EViT(keep=0.7, at=(1, 3), fuse="sum"),
    "evit_r7_drop": EViT(keep=0.7, at=(1, 3), fuse="drop"),
    "paper_trpts_tokens_r8": EViT(keep=0.8, at=(1, 3), rounding="floor"),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_golden(case: str) -> None:
    golden = Golden(case)
    model = compose(golden.backbone(), CASES[case])
    with torch.no_grad():
        assert_close(model(golden.images()), golden["logits"])
    for index, state in enumerate(states_after_blocks(model, golden.images())):
        assert list(state.tokens.shape) == golden[f"block{index}.shape"].tolist()
        assert_close(state.tokens[:, 0, :8], golden[f"block{index}.tok0"])
        assert_close(state.tokens[:, -1, :8], golden[f"block{index}.toklast"])


@pytest.mark.parametrize("case", CASES)
def test_scores_and_order_equal_the_golden(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden, seen = Golden(case), []
    ranked = KeepAttended.scores
    monkeypatch.setattr(KeepAttended, "scores", lambda *given: seen.append(ranked(*given)) or seen[-1])
    model = compose(golden.backbone(), CASES[case])
    with torch.no_grad():
        model(golden.images())
    for scores, index in zip(seen, (1, 3), strict=True):
        assert_close(scores, golden[f"block{index}.cls_attn"])
        kept = golden[f"block{index}.kept_idx"]
        assert torch.equal(scores.topk(kept.shape[1]).indices, kept)


def test_the_fused_token_is_the_mean_weighted_by_attention() -> None:
    model = compose(toy("vit", depth=2), EViT(keep=0.5, at=1, fuse="mean"))
    best = compose(toy("vit", depth=2), EViT(keep=0.5, at=1, fuse="argmax"))
    batch = images(model)
    assert model.run(batch)[1].count == best.run(batch)[1].count == 33
    assert torch.equal(model.run(batch)[1].sizes[:, -1], torch.full((2,), 32.0).double())
    assert torch.equal(best.run(batch)[1].sizes[:, -1], torch.ones(2).double())


@pytest.mark.parametrize("family", ["siglip", "pe-core"])
def test_pool_scores_are_the_pools_own_attention(family: str) -> None:
    model = compose(toy(family, depth=3), EViT(keep=0.5, at=1, score="pool"))
    assert not [name for name, _ in model.named_parameters() if name.startswith("stages")]  # no second names
    with torch.no_grad():
        _, state = compose(toy(family, depth=3)).run(images(model))
        pool, tokens = model.vit.attn_pool, model.vit.norm(state.tokens)
        tokens = tokens if family == "pe-core" else tokens[:, state.prefix :]
        queries = pool.q_norm(pool.q(pool.latent).unflatten(-1, (pool.num_heads, -1)))  # [1, 1, H, d]
        keys = pool.k_norm(
            pool.kv(tokens).chunk(2, -1)[0].unflatten(-1, (pool.num_heads, -1))
        )  # [B, T, H, d]
        attention = ((queries * keys).sum(-1) * pool.scale).softmax(1).mean(-1)  # [B, T]
        torch.testing.assert_close(pool_attention(model.vit, state), attention[:, -64:])
    assert model.run(images(model))[1].count == 33


def test_schedule_moves_training_only() -> None:
    model = compose(toy("vit", depth=4), EViT(keep=0.5, at=(1, 2), warmup=(2, 4)))
    batch = images(model)
    counts = {}
    for epoch in (0, 2, 4, 6, 50):
        model.set_progress(epoch)
        counts[epoch] = (model.train().run(batch)[1].count, model.eval().run(batch)[1].count)
    assert [training for training, _ in counts.values()] == [64, 64, 38, 18, 18]
    assert {evaluation for _, evaluation in counts.values()} == {18}


def test_schedule_is_half_a_cosine() -> None:
    assert [share_at(epoch, 0.6, (10, 100)) for epoch in (0, 9.9, 60, 110, 200)] == [
        1.0, 1.0, pytest.approx(0.8), 0.6, 0.6,
    ]  # fmt: skip
    assert share_at(10, 0.6, (10, 0)) == 0.6


def test_a_reduction_that_leaves_as_many_tokens_still_moves_them() -> None:
    """63 kept and one loser fused are 64 again, in another order: rotary tables must follow."""
    method = EViT(keep=0.99, at=1, rounding="floor")
    reduced, plain = compose(toy("dinov3", depth=3), method), compose(toy("dinov3", depth=3))
    with torch.no_grad():
        torch.testing.assert_close(reduced(images(reduced)), plain(images(plain)), rtol=0, atol=1e-10)


def test_registers_and_distillation_tokens_stay() -> None:
    for family, prefix in (("dinov2-registers", 5), ("distilled", 2)):
        plain, reduced = compose(toy(family, depth=2)), compose(toy(family, depth=2), EViT(keep=0.3, at=0))
        first = states_after_blocks(plain, images(plain))[0], states_after_blocks(reduced, images(plain))[0]
        assert first[0].prefix == first[1].prefix == prefix
        torch.testing.assert_close(first[0].tokens[:, :prefix], first[1].tokens[:, :prefix])


def test_stacks_with_tome_and_counts_sizes() -> None:
    model = compose(toy("vit"), EViT(keep=0.8, at=2), ToMe(r=[0, 0, 0, 0, 0, 0, 5, 5]))
    _, state = model.run(images(model))
    assert state.count == 53 - 10
    assert torch.equal(state.sizes.sum(1), torch.full((2,), 64.0).double())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("EViT(keep=0)", "keep must be above 0 and at most 1, got 0"),
        ("EViT(fuse='max')", "fuse must be one of 'mean', 'sum', 'argmax', 'drop', got 'max'"),
        ("EViT(warmup=5)", r"warmup must be \(start, epochs\), both at least 0, got 5"),
        ("EViT(at=12)", "there is no block 12; the backbone has blocks 0 to 11"),
        ("EViT(score='pool')", "no attention pool to rank by; use 'class' or 'received'"),
    ],
)
def test_refusals(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        compose(toy(), parse_method(text))


def test_a_backbone_without_class_token_is_told_what_to_use() -> None:
    with pytest.raises(ValueError, match="no class token to rank by; use score='pool' or 'received'"):
        compose(toy("siglip"), EViT())
    with pytest.raises(ValueError, match="use score='received'"):
        compose(toy("average-registers"), EViT())


def test_gradient_checkpointing_changes_nothing() -> None:
    model = compose(toy("vit", depth=4), EViT(at=(1, 2)))
    model.requires_grad_(True)
    batch, grads = images(model), []
    for on in (False, True):
        model.set_gradient_checkpointing(on)
        model.zero_grad()
        model(batch).square().sum().backward()
        grads.append(model.vit.blocks[0].attn.qkv.weight.grad.clone())
    assert torch.equal(*grads)
    assert isinstance(model.stages[1], Stage)
