"""Swapping adapters on one backbone: bit for bit, in milliseconds, all or nothing."""

import copy
import time
from pathlib import Path

import pytest
import torch
from timm import create_model
from torch import nn
from toys import images
from toys import toy as toy_of

from vitrim import VPT, Adapter, BitFit, DyT, EViT, LoRA, compose, load, merge, save, swap
from vitrim.network.model import StagedViT

KINDS = {
    "lora": (LoRA(rank=2),),
    "lora again": (LoRA(rank=2),),
    "lora with evit": (LoRA(rank=2), EViT(keep=0.5, at=(1, 2))),
    "adapter": (Adapter(width=3),),
    "ssf": ("SSF()",),
    "bitfit": (BitFit(),),
    "vpt": (VPT(prompts=3), "FacT(rank=4)"),
    "dyt": (DyT(width=3),),
    "repadapter": ("RepAdapter(width=4)",),
    "plain": (),
}


def toy(depth: int = 4, **changes: object) -> nn.Module:
    return toy_of(depth=depth, **changes)


def files(folder: Path, dtype: torch.dtype = torch.float64) -> dict[str, Path]:
    """One saved model of every kind, each trained a little (random values) on the same backbone."""
    paths = {}
    for number, (kind, methods) in enumerate(KINDS.items()):
        classes = 7 if kind == "adapter" else 5
        model = compose(toy(dtype=dtype), *methods, num_classes=classes)
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in model.trained().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=dtype), alpha=0.1)
        paths[kind] = folder / f"{kind}.safetensors"
        save(model, paths[kind], classes=[f"{kind} {i}" for i in range(classes)])
    return paths


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, Path]:
    return files(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def wanted(saved) -> dict[str, torch.Tensor]:
    """What every file's model says when it is loaded on a fresh backbone."""
    return {kind: logits(load(path, backbone=toy())) for kind, path in saved.items()}


@torch.no_grad()
def logits(model: StagedViT) -> torch.Tensor:
    return model(images(model))


def test_every_file_can_follow_every_other_bit_for_bit(saved, wanted):
    model = load(saved["plain"], backbone=toy())
    values = {name: value.clone() for name, value in model.vit.state_dict().items() if "head" not in name}
    for kind in [kind for one in KINDS for kind in ("bitfit", one, "lora", one)]:
        swap(model, saved[kind])
        assert torch.equal(logits(model), wanted[kind]), kind
        assert model.classes == tuple(f"{kind} {i}" for i in range(model.num_classes))
    swap(model, saved["plain"])
    left = model.vit.state_dict()
    assert all(torch.equal(left[name], value) for name, value in values.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_swapped_model_has_the_parts_of_a_loaded_one(kind, saved):
    model, fresh = load(saved["vpt"], backbone=toy()), load(saved[kind], backbone=toy())
    swap(model, saved[kind])
    assert list(model.state_dict()) == list(fresh.state_dict())
    assert list(model.trained()) == list(fresh.trained())
    assert (model.methods, model.preprocess) == (fresh.methods, fresh.preprocess)


def test_a_swapped_model_trains_and_saves_like_a_loaded_one(saved, wanted, tmp_path):
    model = load(saved["adapter"], backbone=toy())
    swap(model, saved["lora with evit"])
    save(model, tmp_path / "again.safetensors")
    assert torch.equal(logits(load(tmp_path / "again.safetensors", backbone=toy())), wanted["lora with evit"])
    model.train()
    model(images(model)).square().sum().backward()
    assert all(p.grad is not None for p in model.trained().values())
    assert model.training and model.stages[0].training


def test_vit_base_swaps_in_under_50_milliseconds(tmp_path):
    """Processor time, the best of three, within one composition and between two."""
    vit = create_model("vit_base_patch16_224", num_classes=0)
    model = compose(copy.deepcopy(vit), LoRA(rank=8), num_classes=100)
    save(model, tmp_path / "lora", include_backbone=False)
    save(compose(vit, Adapter(width=8), EViT(), num_classes=37), tmp_path / "adapter", include_backbone=False)
    for sequence in (("lora", "lora"), ("adapter", "lora")):
        times = []
        for _ in range(4):
            for name in sequence:
                start = time.process_time()
                swap(model, tmp_path / name)
                times.append(time.process_time() - start)
        assert sorted(times)[2] < 0.05


@pytest.mark.parametrize("kind", ["lora", "adapter", "bitfit", "vpt"])
@pytest.mark.parametrize("fault", ["other backbone", "cut", "foreign", "missing", "odd composition"])
def test_a_refused_swap_leaves_the_model_as_it_was(kind, fault, saved, wanted, tmp_path):
    model = load(saved["plain"], backbone=toy())
    swap(model, saved[kind])
    path, error, words = tmp_path / "bad.safetensors", ValueError, "was trained on other weights"
    if fault == "other backbone":
        save(compose(toy(seed=1), LoRA(rank=2), num_classes=7), path)
    elif fault == "cut":
        path.write_bytes(saved["adapter"].read_bytes()[:-100])
        words = "not a readable safetensors file"
    elif fault == "foreign":
        from safetensors.torch import save_file

        save_file({"weight": torch.zeros(3)}, path)
        words = "was not written by vitrim"
    elif fault == "missing":
        path, error, words = tmp_path / "nowhere.safetensors", FileNotFoundError, "no file"
    else:
        save(compose(toy(depth=3), Adapter(width=3), num_classes=5), path)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    trained = set(model.trained())
    with pytest.raises(error, match=words):
        swap(model, path)
    assert torch.equal(logits(model), wanted[kind])
    assert set(model.trained()) == trained
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    swap(model, saved["ssf"])
    assert torch.equal(logits(model), wanted["ssf"])


def test_a_file_that_misses_a_weight_is_refused_after_rebuilding(saved, wanted, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(saved["adapter"], framework="pt") as opened:
        about, names = opened.metadata(), sorted(opened.keys())
        tensors = {name: opened.get_tensor(name) for name in names[1:]}
    save_file(tensors, tmp_path / "partial.safetensors", metadata=about)
    model = load(saved["lora"], backbone=toy())
    with pytest.raises(ValueError, match=f"lacks {names[0]}"):
        swap(model, tmp_path / "partial.safetensors")
    assert torch.equal(logits(model), wanted["lora"]) and model.num_classes == 5


def test_models_that_cannot_give_their_backbone_back_are_refused(saved, wanted):
    trained = load(saved["bitfit"], backbone=toy())
    with pytest.raises(ValueError, match=r"BitFit\(\) trained the backbone's own weights"):
        swap(trained, saved["lora"])
    assert torch.equal(logits(trained), wanted["bitfit"])
    swap(trained, saved["bitfit"])  # the same composition is no problem
    with pytest.raises(ValueError, match="merged model has no part of its own to swap"):
        swap(merge(load(saved["lora"], backbone=toy())), saved["lora"])


def test_the_digest_is_not_forgotten_by_a_change_of_precision(saved):
    model = load(saved["lora"], backbone=toy()).half()
    swap(model, saved["lora again"])
    swap(model, saved["adapter"])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}


def test_a_backbone_that_was_written_to_is_noticed(saved):
    model = load(saved["lora"], backbone=toy())
    with torch.no_grad():
        model.vit.blocks[3].mlp.fc1.weight.mul_(1.01)
    with pytest.raises(ValueError, match="was trained on other weights"):
        swap(model, saved["lora again"])
