"""Blocks that are not attention, then MLP, each by one softmax: parallel ones, talking heads, differences."""

from typing import Any

import pytest
import torch
from blocks import states_after_blocks
from timm.models.cait import TalkingHeadAttn
from torch import Tensor, nn
from toys import images, toy

from vitrim import SSF, EViT, LoRA, RepAdapter, compose
from vitrim.backbones.blocks import attend_in, set_drop_path
from vitrim.backbones.class_attention import with_class_token
from vitrim.backbones.combined_heads import talking_heads
from vitrim.backbones.geometry import has_class_token
from vitrim.network.bypassed import never_called
from vitrim.tokens.state import TokenState

KINDS = ("parallel-things", "parallel-scaling", "parallel-scaling-apart", "differential", "cait")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("family", KINDS)
def test_survivors_leave_every_block_as_timm_s_block_makes_them(family: str) -> None:
    """In its own block a survivor is what timm makes of it, and later blocks see only survivors."""
    vit: Any = toy(family, depth=3)
    score = "class" if has_class_token(vit) else "received"
    model = compose(vit, EViT(keep=0.5, at=(0,), score=score, fuse="drop")).eval()
    batch = images(model)
    with torch.no_grad():
        after = states_after_blocks(model, batch)
        whole = states_after_blocks(compose(toy(family, depth=3)).eval(), batch)[0]
        left = whole.prefix + after[0].position  # [B, M]
        index = torch.cat([torch.arange(whole.prefix).expand(len(left), -1), left], dim=1)[..., None]
        assert after[0].count == whole.count // 2
        expected = whole.tokens.gather(1, index.expand(-1, -1, whole.tokens.shape[2]))
        torch.testing.assert_close(after[0].tokens, expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(after[1].tokens, vit.blocks[1](after[0].tokens), rtol=0, atol=1e-10)


def test_scores_of_parallel_attentions_are_the_mean_over_all_their_heads() -> None:
    vit: Any = toy("parallel-things", depth=1)
    model = compose(vit).eval()
    with torch.no_grad():
        tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(images(model))))
        seen = model.run(images(model), attention=True)[1].attention
        assert seen is not None and seen[0].shape == (2, 4, 65, 65)
        for number, each in enumerate(vit.blocks[0].attns):
            found = seen[0][:, 2 * number : 2 * number + 2]
            torch.testing.assert_close(
                found, plain_attention(each.attn, each.norm(tokens)), rtol=0, atol=1e-10
            )


def test_parallel_attentions_show_the_values_of_all_their_heads() -> None:
    vit: Any = toy("parallel-things", depth=1)
    with torch.no_grad():
        state = TokenState.start(random(2, 5, vit.embed_dim), 1, (2, 2))
        mixed, seen = attend_in(vit.blocks[0], state.tokens, state)
        assert seen.values is not None and seen.values.shape == seen.keys.shape
        expected = (seen.whole() @ seen.values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-10)


def plain_attention(attention: Any, normed: Tensor) -> Tensor:
    queries, keys, _ = (
        attention.qkv(normed).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    )
    products = attention.q_norm(queries) @ attention.k_norm(keys).transpose(-2, -1)
    return (products * attention.scale).softmax(-1)


def test_a_differential_score_is_the_size_of_the_difference() -> None:
    vit: Any = toy("differential", depth=1)
    attention = vit.blocks[0].attn
    model = compose(vit).eval()
    with torch.no_grad():
        tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(images(model))))
        normed = vit.blocks[0].norm1(tokens)
        queries, keys, _ = attention.qkv(normed).chunk(3, dim=-1)
        q, k = (x.unflatten(-1, (4, -1)).transpose(1, 2) for x in (queries, keys))
        softmaxes = (q * attention.scale @ k.transpose(-2, -1)).softmax(-1)
        share = attention._compute_lambda()
        expected = softmaxes[:, ::2] - share * softmaxes[:, 1::2]  # [B, H, T, T]
        seen = model.run(images(model), attention=True)[1].attention
        assert seen is not None and expected.min() < 0
        torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-10)
        kept = compose(vit, EViT(keep=0.25, at=(0,), fuse="drop")).eval().run(images(model))[1].position
        best = expected.abs().mean(1)[:, 0, 2:].topk(16, dim=1).indices
        assert torch.equal(kept, best)


@pytest.mark.parametrize("twice", [1, 2])
def test_talking_heads_count_a_merged_token_as_often_as_it_stands_for_a_patch(twice: int) -> None:
    attention = TalkingHeadAttn(12, num_heads=3).double()
    with torch.no_grad():
        for weight in attention.parameters():
            weight.copy_(random(*weight.shape))
        queries, keys, values = random(2, 3, 5, 4), random(2, 3, 4, 4, seed=1), random(2, 3, 4, 4, seed=2)
        sizes = torch.tensor([1.0, 2.0, 1.0, 1.0 if twice == 1 else 2.0], dtype=torch.float64)
        copies = sizes.long()
        found, _ = talking_heads(attention, queries, keys, values, sizes.log()[None, None, None])
        each = [x.repeat_interleave(copies, dim=2) for x in (keys, values)]
        expected, weights = talking_heads(attention, queries, *each, None)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5, dtype=torch.float64))
        padded = torch.tensor([0.0, 0.0, 0.0, -torch.inf], dtype=torch.float64)[None, None, None]
        short, _ = talking_heads(attention, queries, keys[:, :, :3], values[:, :, :3], None)
        hidden, _ = talking_heads(attention, queries, keys, values, padded)
        torch.testing.assert_close(hidden, short, rtol=0, atol=1e-12)


def test_class_attention_counts_a_merged_token_as_often_as_it_stands_for_a_patch() -> None:
    vit = toy("cait")
    tokens = random(2, 4, 24)
    with torch.no_grad():
        state = TokenState.start(tokens, 0, (2, 2))
        sizes = torch.tensor([1.0, 3.0, 1.0, 1.0], dtype=torch.float64).expand(2, -1)
        reduced = TokenState(tokens, 0, sizes, state.position, state.source, (2, 3), moved=True)
        copies = torch.tensor([1, 3, 1, 1])
        whole = TokenState.start(tokens.repeat_interleave(copies, dim=1), 0, (2, 3))
        found, expected = with_class_token(vit, reduced), with_class_token(vit, whole)
        assert found.prefix == 1 and found.tokens.shape == (2, 5, 24)
        torch.testing.assert_close(found.tokens[:, 0], expected.tokens[:, 0], rtol=0, atol=1e-12)


def test_features_of_cait_are_timm_s() -> None:
    vit: Any = toy("cait")
    model, batch = compose(vit).eval(), images(vit)
    with torch.no_grad():
        torch.testing.assert_close(
            model.forward_features(batch), vit.forward_features(batch), rtol=0, atol=1e-11
        )
        last, maps = model.forward_intermediates(batch, indices=3, norm=True)
        expected, others = vit.forward_intermediates(batch, indices=3, norm=True)
        torch.testing.assert_close([last, *maps], [expected, *others], rtol=0, atol=1e-11)
        pooled = vit.forward_head(vit.forward_features(batch), pre_logits=True)
        torch.testing.assert_close(model.read_by_head(batch), pooled, rtol=0, atol=1e-11)


def test_one_layer_for_both_halves_is_tuned_as_one() -> None:
    with pytest.raises(ValueError, match=r'before=\("attention", "mlp"\)'):
        compose(toy("parallel-scaling", depth=2), RepAdapter(width=4, before=("attention",)))
    with pytest.raises(ValueError, match="query, key, value and mlp_in are one layer here; name all four"):
        compose(toy("parallel-scaling", depth=2), SSF(roles=("query", "key", "value")))
    layers = [site.layer for site in compose(toy("parallel-things", depth=1), LoRA()).sites()]
    assert sum(type(layer).__name__ == "SummedLinear" for layer in layers) == 2 * 3  # both, query key value


@pytest.mark.parametrize("family", KINDS)
def test_drop_path_is_timm_s_or_refused(family: str) -> None:
    vit: Any = toy(family, depth=2)
    if family.startswith("parallel-scaling"):
        with pytest.raises(ValueError, match="block 1 skips attention and MLP together"):
            set_drop_path(vit, 0.5)
        with pytest.raises(ValueError, match="create the model with drop_path_rate=0"):
            compose(toy(family, depth=2, drop_path_rate=0.5))
        return
    set_drop_path(vit, 1.0)
    model, batch = compose(vit).train(), images(vit)
    reference: Any = toy(family, depth=1)
    reference.load_state_dict({n: v for n, v in vit.state_dict().items() if not n.startswith("blocks.1.")})
    with torch.no_grad():
        torch.testing.assert_close(model(batch), compose(reference)(batch), rtol=0, atol=1e-11)


@pytest.mark.parametrize("family", KINDS)
def test_hooks_are_refused_exactly_where_nothing_is_called(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = compose(toy(family, depth=1)).eval()
    silent = {id(module) for _, module in never_called(model.vit)}
    for name, module in never_called(model.vit):
        handle = module.register_forward_hook(lambda *_: None)
        with pytest.raises(ValueError, match="a hook hangs on"):
            model(images(model))
        handle.remove()
        assert name.startswith("the backbone") or module is model.get_submodule(name)
    monkeypatch.setattr("vitrim.network.model.refuse_unseen_hooks", lambda vit: None)
    seen: set[int] = set()
    for module in model.vit.modules():
        module.register_forward_hook(lambda module, *_: seen.add(id(module)))
    model(images(model))
    lists = nn.ModuleList | nn.Identity  # which nobody calls, or nothing depends on
    block = model.vit.blocks[0]
    uncalled = [m for m in block.modules() if id(m) not in seen and not isinstance(m, lists)]
    assert {id(module) for module in uncalled} == silent & {id(module) for module in block.modules()}
    assert not seen & silent
