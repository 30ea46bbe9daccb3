"""What was written can be read back and computes the same, or is refused; nothing a file names is trusted."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from toys import images, toy, wake

import vitrim.files.saving
from vitrim import Adapter, EViT, LoRA, compose, load, merge, save
from vitrim.runs.opening import open_model

NAME = "vit_tiny_patch16_224"


def small(**options: Any) -> nn.Module:
    return wake(timm.create_model(NAME, **{"img_size": 32, "depth": 2, "num_classes": 3, **options})).eval()


STRUCTURES: list[dict[str, Any]] = [
    {"num_classes": 0}, {"in_chans": 4}, {"global_pool": "avg"}, {"reg_tokens": 4}, {"act_layer": "relu"},
    {"dynamic_img_size": True},
]  # fmt: skip


@pytest.mark.parametrize("options", STRUCTURES, ids=str)
@pytest.mark.parametrize("merged", [False, True], ids=["tuned", "merged"])
def test_a_module_of_any_structure(options: dict[str, Any], merged: bool, tmp_path: Path) -> None:
    model = wake(compose(small(**options), LoRA(rank=2), Adapter(width=2))).eval()
    model = merge(model) if merged else model
    save(model, tmp_path / "m.safetensors", include_backbone=True)
    batch = torch.randn(2, options.get("in_chans", 3), 32, 32)
    with torch.no_grad():
        again = load(tmp_path / "m.safetensors")
        assert torch.equal(again(batch), model(batch))
        save(again, tmp_path / "second.safetensors")
        assert torch.equal(load(tmp_path / "second.safetensors")(batch), model(batch))


def test_a_structure_that_cannot_be_built_again(tmp_path: Path) -> None:
    def strange() -> nn.Module:
        vit: Any = toy(dtype=torch.float32)
        vit.blocks[1].mlp.act = nn.Tanh()
        return vit

    model = compose(strange(), LoRA()).eval()
    for whole in (model, merge(model)):
        with pytest.raises(ValueError, match="cannot build again"):
            save(whole, tmp_path / "m.safetensors", include_backbone=True)
    assert not (tmp_path / "m.safetensors").exists()
    save(model, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="backbone=MODULE"):
        load(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="of another structure"):  # the very same weights
        load(tmp_path / "m.safetensors", backbone=toy(dtype=torch.float32))
    again = load(tmp_path / "m.safetensors", backbone=strange())
    assert torch.equal(again(images(model)), model(images(model)))


@pytest.mark.parametrize("methods", [(), (LoRA(rank=2), EViT(keep=0.5, at=(0,)))], ids=["plain", "tuned"])
def test_features_without_a_classifier(methods: tuple[Any, ...], tmp_path: Path) -> None:
    for family in ("vit", "distilled", "siglip", "average", "dinov3"):
        tried = methods if family in ("vit", "distilled") else methods[:1]
        model = wake(compose(toy(family, torch.float32), *tried, num_classes=0)).eval()
        assert model.num_classes == 0 and model(images(model)).shape == (2, 24)
        assert not any("head" in name for name in model.trained())
        save(model, tmp_path / "m.safetensors", include_backbone=True)
        assert torch.equal(load(tmp_path / "m.safetensors")(images(model)), model(images(model)))
    with pytest.raises(ValueError, match="num_classes must be a whole number"):
        compose(toy(), num_classes=False)


def test_features_of_a_named_model_stay_features(tmp_path: Path) -> None:
    model = compose(NAME, LoRA(rank=2), num_classes=0, image_size=32).eval()
    save(model, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.num_classes == 0 and torch.equal(again(images(model)), model(images(model)))


def test_the_files_own_classifier_is_kept(tmp_path: Path) -> None:
    own = small(depth=12, num_classes=7)
    torch.save(own.state_dict(), tmp_path / "w.pth")
    for classes in (None, 7):
        model = compose(NAME, weights=tmp_path / "w.pth", image_size=32, num_classes=classes)
        assert model.num_classes == 7 and torch.equal(model.vit.head.weight, own.head.weight)  # type: ignore
    fresh = compose(NAME, weights=tmp_path / "w.pth", image_size=32, num_classes=4)
    assert fresh.num_classes == 4


REFUSED: dict[str, Any] = {
    "a block that is not there": lambda vit: compose(vit, LoRA(), EViT(at=(3, 40))),
    "two tuners for a layer": lambda vit: compose(vit, LoRA(), LoRA(), num_classes=9),
    "a size that does not fit": lambda vit: compose(vit, EViT(at=(99,)), image_size=64),
    "no class count": lambda vit: compose(vit, Adapter(), num_classes=-1),
}


@pytest.mark.parametrize("family", ["vit", "distilled", "siglip", "eva02"])
@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_leaves_the_module_alone(kind: str, family: str) -> None:
    vit = toy(family)
    before, text = vit.state_dict(), repr(vit)
    trains = [weight.requires_grad for weight in vit.parameters()]
    batch = images(vit)
    expected = vit(batch)
    with pytest.raises(ValueError):
        REFUSED[kind](vit)
    after = vit.state_dict()
    assert repr(vit) == text and list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [weight.requires_grad for weight in vit.parameters()] == trains
    assert torch.equal(vit(batch), expected)
    compose(vit, LoRA(rank=2), num_classes=3)


class Trap:
    """What a stranger's weights file asks the reader to call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("trapped",)


def test_a_strangers_file_names_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    model = compose(NAME, LoRA(rank=2), num_classes=3, image_size=32)
    save(model, folder / "model.safetensors")
    torch.save({"model": Trap()}, tmp_path / "weights.pth")
    (folder / "run.json").write_text(json.dumps({"settings": {"weights": str(tmp_path / "weights.pth")}}))
    assert open_model(folder).num_classes == 3  # the run's settings are no reason to read a file
    about, tensors = vitrim.files.saving.read(folder / "model.safetensors")
    about["backbone"].update(kind="file", weights=str(tmp_path / "weights.pth"))
    save_file(tensors, folder / "model.safetensors", metadata={"vitrim": json.dumps(about)})
    with pytest.raises(ValueError, match="could run a program"):
        open_model(folder)
    assert not (tmp_path / "trapped").exists()
    torch.save(timm.create_model(NAME, img_size=32).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="was trained on other weights"):  # readable, but not what was saved
        open_model(folder)


def test_weights_of_a_folder_are_found_again(tmp_path: Path) -> None:
    import transformers

    shape = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    made = wake(transformers.ViTModel(transformers.ViTConfig(**shape)))
    made.save_pretrained(tmp_path / "theirs")  # type: ignore[operator]
    model = compose(str(tmp_path / "theirs"), LoRA(rank=2), num_classes=5).eval()
    save(model, tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_size < 20_000
    assert torch.equal(load(tmp_path / "m.safetensors")(images(model)), model(images(model)))
