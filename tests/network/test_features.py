"""Features and attention maps: timm's calls with timm's results, on the grid however few tokens are left;
hooks that would see nothing are refused."""

import pytest
import torch
from toys import images, toy, wake

from vitrim import compose
from vitrim.network.bypassed import never_called

PLAIN = ("vit", "distilled", "dinov2-registers", "dinov3", "siglip", "clip")
REDUCED = ("EViT(keep=0.5, at=(1,))", "ToMe(r=2)", "Bipartite(at=(1,))", "Pool(at=(1,))")


@pytest.mark.parametrize("family", PLAIN)
def test_the_same_as_timm(family: str) -> None:
    vit = toy(family, depth=4)
    batch = images(vit)
    with torch.no_grad():
        features = vit.forward_features(batch)
        last, maps = vit.forward_intermediates(batch, indices=[0, 3], norm=True, return_prefix_tokens=True)
        layers = vit.forward_intermediates(batch, indices=2, output_fmt="NLC", intermediates_only=True)
    model = compose(vit).eval()
    close = {"rtol": 1e-10, "atol": 1e-10}
    with torch.no_grad():
        torch.testing.assert_close(model.forward_features(batch), features, **close)
        found = model.forward_intermediates(batch, [0, 3], norm=True, return_prefix_tokens=True)
        torch.testing.assert_close(found[0], last, **close)
        if vit.num_prefix_tokens:
            for ours, theirs in zip(found[1], maps, strict=True):
                torch.testing.assert_close(ours[0], theirs[0], **close)
                torch.testing.assert_close(ours[1], theirs[1], **close)
        for ours, theirs in zip(model.get_intermediate_layers(batch, n=2), layers, strict=True):
            torch.testing.assert_close(ours, theirs, **close)


@pytest.mark.parametrize("reducer", REDUCED)
def test_reduced_maps_have_the_whole_grid(reducer: str) -> None:
    model = wake(compose(toy("vit", depth=4), "LoRA(rank=2)", reducer)).eval()
    batch = images(model)
    with torch.no_grad():
        maps = model.forward_intermediates(batch, 3, intermediates_only=True)
        tokens = model.forward_intermediates(
            batch, 1, output_fmt="NLC", restore="tokens", intermediates_only=True
        )
        left = model.run(batch)[1]
        features = model.forward_features(batch)
    assert [tuple(each.shape) for each in maps] == [(2, 24, 8, 8)] * 3
    assert tokens[0].shape[1] == left.count < 64
    torch.testing.assert_close(model.vit.norm(left.tokens), features)
    assert all(torch.isfinite(each).all() for each in maps)


def test_attention_of_every_block() -> None:
    model = wake(compose(toy("vit", depth=4), "ToMe(r=4)")).eval()
    batch = images(model)
    with torch.no_grad():
        plain, without = model.run(batch)
        logits, state = model.run(batch, attention=True)
    assert without.attention is None
    torch.testing.assert_close(logits, plain)
    assert state.attention is not None
    counts = [65, 61, 57, 53]
    assert [tuple(each.shape) for each in state.attention] == [(2, 2, count, count) for count in counts]
    for each in state.attention:
        torch.testing.assert_close(each.sum(-1), torch.ones_like(each.sum(-1)))


def test_attention_is_what_was_applied() -> None:
    """Recomputed from the first block's own layers."""
    model = compose(toy("vit", depth=2)).eval()
    batch, attention = images(model), model.vit.blocks[0].attn
    with torch.no_grad():
        _, state = model.run(batch, attention=True)
        tokens = model.vit._pos_embed(model.vit.patch_embed(batch))
        normed = model.vit.blocks[0].norm1(tokens)
        queries, keys, _ = attention.qkv(normed).reshape(2, 65, 3, 2, 12).permute(2, 0, 3, 1, 4)
        expected = (queries @ keys.transpose(-2, -1) * 12**-0.5).softmax(-1)
    assert state.attention is not None
    torch.testing.assert_close(state.attention[0], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("place", range(4))
def test_hooks_that_would_see_nothing_are_refused(place: int) -> None:
    model = compose(toy("vit", depth=2)).eval()
    name, module = list(never_called(model.vit))[place]
    handle = module.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=f"a hook hangs on {name.split(' ')[0]}"):
        model(images(model))
    handle.remove()
    model(images(model))


@pytest.mark.parametrize("part", ["attn.qkv", "attn.proj", "mlp", "mlp.fc1", "norm1", "norm2"])
def test_hooks_on_parts_see_every_block(part: str) -> None:
    model = compose(toy("vit", depth=3)).eval()
    seen: list[str] = []
    for block in model.vit.blocks:
        block.get_submodule(part).register_forward_hook(lambda *_: seen.append(part))
    model(images(model))
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"indices": [4]}, "indices from 0 to 3"),
        ({"indices": 5}, "has 4"),
        ({"indices": []}, "indices from 0"),
        ({"output_fmt": "NHWC"}, "output_fmt"),
        ({"restore": "none"}, "restore"),
        ({"restore": "tokens"}, "needs every patch"),
    ],
    ids=str,
)
def test_refusals(arguments: dict[str, object], said: str) -> None:
    model = compose(toy("vit", depth=4)).eval()
    with pytest.raises(ValueError, match=said):
        model.forward_intermediates(images(model), **arguments)
