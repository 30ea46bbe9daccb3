"""Patches of another size than the backbone's: projection and places resized as timm resizes them."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from small_runs import colour_folder
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from timm.models.vision_transformer import VisionTransformer
from toys import toy

from vitrim import EViT, LoRA, compose, costs, evaluate, load, predict, save, train
from vitrim.backbones.shapes import shapes_only
from vitrim.cli.main import main

SIZES = {"img_size": 48, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 3}


def small(**settings: object) -> VisionTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return VisionTransformer(**{**SIZES, **settings}).eval()


def test_projection_and_places_are_resized_as_timm_resizes_them() -> None:
    model = compose(small(), patch_size=8)
    assert model.preprocess.image_size == (48, 48) and model.patch_count == 36
    weights, before = model.vit.state_dict(), small().state_dict()
    projection = resample_patch_embed(before["patch_embed.proj.weight"], [8, 8])
    torch.testing.assert_close(weights["patch_embed.proj.weight"], projection, rtol=0, atol=0)
    places = resample_abs_pos_embed(before["pos_embed"], [6, 6], old_size=[3, 3], num_prefix_tokens=1)
    torch.testing.assert_close(weights["pos_embed"], places, rtol=0, atol=0)
    assert not model.vit.patch_embed.proj.weight.requires_grad


@pytest.mark.parametrize(
    ("name", "patch", "size"), [("flexivit_small", 30, 240), ("vit_tiny_patch16_224", (8, 16), (64, 96))]
)
def test_a_file_of_weights_gives_what_timm_gives_at_this_patch_size(
    name: str, patch: int | tuple[int, int], size: int | tuple[int, int], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    file = tmp_path / f"{name}.safetensors"
    save_file(timm.create_model(name, num_classes=5).state_dict(), file)
    theirs = timm.create_model(
        name, num_classes=5, pretrained=True, patch_size=patch, img_size=size,
        pretrained_cfg_overlay={"file": str(file), "num_classes": 5},
    ).eval()  # fmt: skip
    ours = compose(name, weights=file, patch_size=patch, image_size=size).eval()
    images = torch.randn(1, 3, *ours.preprocess.image_size)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=3e-6)


def test_a_resized_patch_gives_the_token_it_gave() -> None:
    """FlexiViT's equation: <x, w> = <Bx, w'> for every patch x, enlarged by the resizing B."""
    larger, plain = compose(small(), patch_size=32, image_size=64), compose(small())
    patches = torch.randn(5, 3, 16, 16)
    enlarged = torch.nn.functional.interpolate(patches, size=(32, 32), mode="bicubic", antialias=True)
    with torch.no_grad():
        ours, theirs = larger.vit.patch_embed.proj(enlarged), plain.vit.patch_embed.proj(patches)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("backbone", ["vitrim_tiny_patch8_96", "test_vit"])
def test_saved_and_found_again(backbone: str, whole: bool, tmp_path: Path) -> None:
    model = compose(
        backbone,
        LoRA(rank=2),
        EViT(keep=0.5, at=(1,)),
        num_classes=4,
        patch_size=16,
        image_size=96,
        in_chans=4,
    ).eval()
    for weight in model.trained().values():
        weight.data += 0.1 * torch.randn_like(weight)
    save(model, tmp_path / "model.safetensors", include_backbone=whole)
    again = load(tmp_path / "model.safetensors")
    images = torch.randn(3, 4, 96, 96)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
    assert again.origin.patch_size == (16, 16) and again.origin.in_chans == 4
    resized = load(tmp_path / "model.safetensors", image_size=64)
    assert resized.patch_count == 16
    with torch.no_grad():
        expected = resized(images[..., :64, :64])
    save(resized, tmp_path / "resized.safetensors", include_backbone=True)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "resized.safetensors")(images[..., :64, :64]), expected)


def test_a_module_is_found_again_when_it_is_given_again(tmp_path: Path) -> None:
    model = compose(small(), LoRA(rank=2), patch_size=8, in_chans=1).eval()
    save(model, tmp_path / "model.safetensors", include_backbone=False)
    images = torch.randn(1, 1, 48, 48)
    again = load(tmp_path / "model.safetensors", backbone=small())
    assert torch.equal(again(images), model(images))
    with pytest.raises(ValueError, match="another structure"):
        load(tmp_path / "model.safetensors", backbone=small(qkv_bias=False))


def test_trained_from_the_command_line(tmp_path: Path) -> None:
    data = colour_folder(tmp_path / "colours", per_class=6)
    out = tmp_path / "run"
    arguments = [
        "--patch_size=24",
        "--recipe=linear",
        "--epochs=1",
        "--batch_size=4",
        f"--out={out}",
        "--cpu",
    ]
    assert main(["train", "--data", data, *arguments]) == 0
    model = load(out / "model.safetensors")
    assert model.patch_count == 16 and model.origin.patch_size == (24, 24)
    assert 0 <= evaluate(out, cpu=True).top1 <= 1
    assert predict(out, next((tmp_path / "colours" / "red").glob("*.png")))
    assert train(out=out, resume=True, patch_size=24, cpu=True, quiet=True).model.origin == model.origin
    with pytest.raises(ValueError, match="patch_size"):
        train(out=out, resume=True, patch_size=12, cpu=True, quiet=True)


def test_costs_follow_without_weights() -> None:
    with shapes_only():
        fine, coarse = (compose("vit_tiny_patch16_224", patch_size=side) for side in (8, 16))
    assert (fine.patch_count, coarse.patch_count) == (784, 196)
    assert costs(fine).gmacs > 4 * costs(coarse).gmacs


@pytest.mark.parametrize(
    ("family", "patch", "sentence"),
    [
        ("vit", 0, r"patch_size must be pixels or \(height, width\), got 0"),
        ("vit", (4, 4, 4), "patch_size must be pixels"),
        ("vit", 7, "images of 32x32 pixels are not filled by patches of 7x7"),
        ("hybrid", 8, "patches come from one convolution without overlap"),
        ("naflex-map", 8, "patches come from one convolution without overlap"),
        ("cait", 8, "patches come from one convolution without overlap"),
    ],
)
def test_what_cannot_be(family: str, patch: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        compose(toy(family), patch_size=patch)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["vit", "siglip", "dinov3", "rope-mixed", "beit", "relpos"])
def test_other_places_follow_too(family: str) -> None:
    """Rotary tables and relative biases of the new grid."""
    model = compose(toy(family), patch_size=8, image_size=48).eval()
    images = torch.randn(1, 3, 48, 48, dtype=next(model.parameters()).dtype)
    with torch.no_grad():
        torch.testing.assert_close(model(images), model.vit(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", [{"class_token": False, "global_pool": "avg"}, {"num_classes": 0}])
def test_without_class_token_or_classes(settings: dict[str, object], tmp_path: Path) -> None:
    """Both keep working with patches of another size; features are what the head would read."""
    model = compose(small(**settings), LoRA(rank=2), EViT(keep=0.5, at=(0,), score="received"), patch_size=8)
    model.eval()
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        outputs = model(images)
    assert outputs.shape == (2, settings.get("num_classes", 3) or 32)
    save(model, tmp_path / "model.safetensors", include_backbone=True)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "model.safetensors")(images), outputs)
