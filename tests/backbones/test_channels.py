"""Grey and multispectral images: weights adapted as timm adapts them, saved, found again, trained."""

from pathlib import Path

import pytest
import timm
import torch
from small_runs import colour_folder
from toys import toy

from vitrim import EViT, LoRA, compose, evaluate, load, predict, save, train
from vitrim.cli.main import main

NAME = "vit_tiny_patch16_224"


def test_weights_are_adapted_as_timm_adapts_them(tmp_path: Path) -> None:
    """A checkpoint of three channels, filled by timm itself into models of one and of twelve."""
    torch.manual_seed(0)
    source = timm.create_model(NAME, num_classes=5)
    file = tmp_path / f"{NAME}.safetensors"
    from safetensors.torch import save_file

    save_file(source.state_dict(), file)
    for channels in (1, 4, 12):
        theirs = timm.create_model(
            NAME,
            num_classes=5,
            in_chans=channels,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(file), "num_classes": 5},
        ).eval()
        ours = compose(NAME, weights=file, in_chans=channels).eval()
        assert ours.preprocess.channels == channels and len(ours.preprocess.mean) == channels
        images = torch.randn(2, channels, 224, 224)
        with torch.no_grad():
            torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=2e-6)


def test_a_grey_image_repeated_gives_what_it_gave() -> None:
    plain, many = compose(toy()), compose(toy(), in_chans=12)
    grey = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(many(grey.expand(-1, 12, -1, -1)), plain(grey.expand(-1, 3, -1, -1)))
    assert not many.vit.patch_embed.proj.weight.requires_grad


@pytest.mark.parametrize("whole", [True, False])
def test_saved_and_found_again(whole: bool, tmp_path: Path) -> None:
    model = compose(
        "vitrim_tiny_patch8_96", LoRA(rank=2), EViT(keep=0.5, at=(3,)), num_classes=4, in_chans=4
    ).eval()
    for weight in model.trained().values():
        weight.data += 0.1 * torch.randn_like(weight)
    save(model, tmp_path / "model.safetensors", include_backbone=whole)
    again = load(tmp_path / "model.safetensors")
    images = torch.randn(3, 4, 96, 96)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
    assert again.origin.in_chans == 4


def test_random_backbones_too(tmp_path: Path) -> None:
    model = compose("test_vit", LoRA(rank=2), in_chans=1).eval()
    save(model, tmp_path / "model.safetensors")
    images = torch.randn(1, 1, *model.preprocess.image_size)
    assert torch.equal(load(tmp_path / "model.safetensors")(images), model(images))


def test_training_on_grey_pictures(tmp_path: Path) -> None:
    data = colour_folder(tmp_path / "colours", per_class=12)
    settings = {"epochs": 1, "batch_size": 8}
    run = train(
        None, data, methods=["LoRA(rank=2)"], out=tmp_path / "run", training=settings, in_chans=1, cpu=True,
        quiet=True,
    )  # fmt: skip
    assert run.record["preprocess"]["channels"] == 1 and run.record["settings"]["in_chans"] == 1
    assert evaluate(tmp_path / "run", cpu=True).top1 == run.metrics.top1
    assert predict(tmp_path / "run", next((tmp_path / "colours" / "red").glob("*.png")))
    again = train(out=tmp_path / "run", resume=True, in_chans=1, cpu=True, quiet=True)
    assert again.metrics.top1 == run.metrics.top1
    with pytest.raises(ValueError, match="in_chans=1"):
        train(out=tmp_path / "run", resume=True, in_chans=3, cpu=True, quiet=True)


def test_what_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="in_chans must be a whole number of channels from 1 on"):
            compose("test_vit", in_chans=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="patches come from one convolution of 3 channels"):
        compose(toy("hybrid"), in_chans=4)
    data = colour_folder(tmp_path / "colours", per_class=4)
    assert main(["train", "--data", data, "--in_chans=12", f"--out={tmp_path / 'run'}", "--cpu"]) == 2
    assert "the 12 channels that the model takes" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
