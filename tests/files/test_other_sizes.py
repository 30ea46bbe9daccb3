"""A model saved at one image size is loaded at another: what timm resizes, with reducers that fit."""

from pathlib import Path

import pytest
import torch
from toys import images, toy, wake

from vitrim import compose, load, save
from vitrim.backbones.geometry import set_image_size

REDUCERS = {
    "none": (),
    "evit": ("EViT(keep=0.5, at=(1,))",),
    "dynamicvit": ("DynamicViT(at=(1,))",),
    "tome": ("ToMe(r=3)",),
    "bipartite": ("Bipartite(at=(1,))",),
    "pool": ("Pool(at=(1,))",),
}


@pytest.mark.parametrize("family", ["vit", "dinov3"])
@pytest.mark.parametrize("reducer", REDUCERS)
def test_the_same_as_composed_at_that_size(reducer: str, family: str, tmp_path: Path) -> None:
    methods = ("LoRA(rank=2)", *REDUCERS[reducer])
    trained = wake(compose(toy(family, torch.float32, depth=3), *methods), seed=3).eval()
    save(trained, tmp_path / "small.safetensors", include_backbone=True)

    vit = toy(family, torch.float32, depth=3)
    set_image_size(vit, (48, 40))
    expected = compose(vit, *methods).eval()
    small = {**trained.state_dict(), "vit.pos_embed": None}
    resized = load(tmp_path / "small.safetensors", image_size=(48, 40))
    values = {
        name: small[name] if small.get(name) is not None else resized.state_dict()[name]
        for name in expected.state_dict()
    }
    expected.load_state_dict(values)
    batch = images(expected)
    assert batch.shape[-2:] == (48, 40)
    with torch.no_grad():
        torch.testing.assert_close(resized(batch), expected(batch), rtol=1e-5, atol=1e-5)
        assert resized.run(batch)[1].count == expected.run(batch)[1].count
    assert resized.preprocess.image_size == (48, 40)

    save(resized, tmp_path / "large.safetensors", include_backbone=True)
    again = load(tmp_path / "large.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(again(batch), resized(batch))


def test_positions_are_resized_as_timm_does(tmp_path: Path) -> None:
    trained = wake(compose(toy("vit", torch.float32, depth=2), "LoRA(rank=2)"), seed=3)
    save(trained, tmp_path / "model.safetensors", include_backbone=True)
    resized = load(tmp_path / "model.safetensors", image_size=64)
    set_image_size(trained.vit, (64, 64))
    assert torch.equal(resized.vit.pos_embed, trained.vit.pos_embed)
    assert resized.vit.pos_embed.shape[1] == 1 + 16 * 16


@pytest.mark.parametrize("size", [0, -32, (32,), (32, 32, 32), 33.5, "large", True])
def test_sizes_that_mean_nothing(size: object, tmp_path: Path) -> None:
    save(compose(toy("vit", torch.float32, depth=2)), tmp_path / "model.safetensors", include_backbone=True)
    with pytest.raises(ValueError, match="image_size must be"):
        load(tmp_path / "model.safetensors", image_size=size)  # type: ignore[arg-type]
