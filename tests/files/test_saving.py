"""One file rebuilds the model without outside knowledge, or says what is missing; nothing is half-written."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from toys import images, toy, wake

import vitrim
from vitrim import Adapter, DenseAdapter, EViT, LoRA, compose, load, merge, save
from vitrim.network.model import StagedViT

METHODS = (DenseAdapter(width=4), LoRA(rank=2), EViT(keep=0.6, at=(3, 6)))


@pytest.fixture
def named() -> StagedViT:
    model = compose("vit_tiny_patch16_224", *METHODS, num_classes=3, image_size=64).eval()
    with torch.no_grad():
        for parameter in model.trained().values():
            parameter.normal_(std=0.05)
    model.classes = ("ant", "bee", "cat")
    return model


def test_round_trip_by_name_is_exact_and_small(named: StagedViT, tmp_path: Path) -> None:
    save(named, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert torch.equal(again(images(named)), named(images(named)))
    assert again.methods == METHODS and again.classes == named.classes
    assert again.preprocess == named.preprocess
    assert set(again.trained()) == set(named.trained())
    trained = sum(p.numel() for p in named.trained().values()) * 4
    assert trained < (tmp_path / "m.safetensors").stat().st_size < trained + 20_000


def test_the_file_says_what_it_is(named: StagedViT, tmp_path: Path) -> None:
    save(named, tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="pt") as opened:
        about = json.loads(opened.metadata()["vitrim"])
    assert about["methods"][2] == "EViT(keep=0.6, at=(3, 6))"
    assert about["classes"] == ["ant", "bee", "cat"]
    assert about["preprocess"]["image_size"] == [64, 64]
    assert about["backbone"]["name"] == "vit_tiny_patch16_224" and len(about["backbone"]["digest"]) == 64


def test_a_changed_backbone_travels_in_the_file(named: StagedViT, tmp_path: Path) -> None:
    wake(named)
    save(named, tmp_path / "m.safetensors")
    assert torch.equal(load(tmp_path / "m.safetensors")(images(named)), named(images(named)))


def test_a_module_is_given_again(tmp_path: Path) -> None:
    model = compose(toy(dtype=torch.float32), *METHODS).eval()
    save(model, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="backbone=MODULE"):
        load(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors", backbone=toy(dtype=torch.float32))
    assert torch.equal(again(images(model)), model(images(model)))


def test_another_backbone_is_refused_and_left_alone(tmp_path: Path) -> None:
    save(compose(toy(dtype=torch.float32), LoRA()), tmp_path / "m.safetensors")
    other = toy(dtype=torch.float32, seed=5)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match="trained on other weights"):
        load(tmp_path / "m.safetensors", backbone=other)
    after = other.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_weights_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = timm.create_model("vit_tiny_patch16_224", num_classes=9)
    file = tmp_path / "vit_tiny_patch16_224.mine.safetensors"
    save_file({name: v for name, v in source.state_dict().items() if not name.startswith("head")}, file)
    by_option = compose("vit_tiny_patch16_224", LoRA(), weights=file, num_classes=4)
    model = compose(str(file), LoRA(), num_classes=4).eval()
    assert torch.equal(by_option.vit.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)
    save(model, tmp_path / "m.safetensors")
    batch = images(model, batch=1)
    assert torch.equal(load(tmp_path / "m.safetensors")(batch), model(batch))
    file.rename(tmp_path / "moved.safetensors")
    with pytest.raises(FileNotFoundError, match="weights=FILE"):
        load(tmp_path / "m.safetensors")
    moved = load(tmp_path / "m.safetensors", weights=tmp_path / "moved.safetensors")
    assert torch.equal(moved(batch), model(batch))


def test_merged_models_compute_and_save_the_same(named: StagedViT, tmp_path: Path) -> None:
    merged = merge(named.double())
    assert not any(isinstance(m, vitrim.backbones.tuned_linear.TunedLinear) for m in merged.modules())
    batch = images(named)
    torch.testing.assert_close(merged(batch), named(batch), rtol=1e-10, atol=1e-12)
    assert merged.methods == (METHODS[0], METHODS[2])
    save(merged, tmp_path / "m.safetensors")
    torch.testing.assert_close(load(tmp_path / "m.safetensors").double()(batch), merged(batch))


def test_merging_leaves_the_original_alone(named: StagedViT) -> None:
    before = named(images(named))
    merge(named)
    assert torch.equal(named(images(named)), before) and named.methods == METHODS


def damaged(tmp_path: Path, kind: str) -> Path:
    file = tmp_path / "m.safetensors"
    save(compose(toy(dtype=torch.float32), Adapter()), file)
    if kind == "missing":
        return tmp_path / "none.safetensors"
    if kind == "folder":
        return tmp_path
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    if kind == "foreign":
        save_file({"weight": torch.zeros(2)}, file)
    if kind == "newer":
        about, tensors = vitrim.files.saving.read(file)
        save_file(tensors, file, metadata={"vitrim": json.dumps({**about, "format": 99})})
    if kind == "incomplete":
        about, tensors = vitrim.files.saving.read(file)
        tensors.popitem()
        save_file(tensors, file, metadata={"vitrim": json.dumps(about)})
    return file


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no file"),
        ("folder", "no file"),
        ("cut", "not a readable safetensors file"),
        ("foreign", "not written by vitrim"),
        ("newer", "newer vitrim"),
        ("incomplete", "does not fit its own composition"),
    ],
)
def test_damaged_files_get_a_sentence(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load(damaged(tmp_path, kind), backbone=toy(dtype=torch.float32))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_failed_write_leaves_the_old_file(
    named: StagedViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    save(named, tmp_path / "m.safetensors")
    before = (tmp_path / "m.safetensors").read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(step, full)
    with pytest.raises(OSError, match=r"No space left on device.*unchanged"):
        save(named, tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]


def test_wrong_class_names_are_refused(named: StagedViT, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 class names for a model with 3 outputs"):
        save(named, tmp_path / "m.safetensors", classes=("a", "b"))
