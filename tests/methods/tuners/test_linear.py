"""A classifier in few bits: trains, is stored packed, folds, and has the size of the published files."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from small_runs import colour_folder, small_run, weights
from torch.nn import functional as F
from toys import images, toy, wake

from vitrim import Linear, compose, load, merge, save, swap
from vitrim.backbones.shapes import shapes_only
from vitrim.data.vtab_tasks import TASKS
from vitrim.files.saving import saved_tensors
from vitrim.methods.quantising.linear import fake_quantise, level_values
from vitrim.methods.quantising.packing import packed_lengths
from vitrim.training import loop
from vitrim.training.loop import train


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("family", ["vit", "distilled", "siglip"])
def test_logits_are_those_of_the_rounded_weight(family: str, bits: int) -> None:
    """Rounded by the functions that the qlinear goldens check, and without a bias."""
    plain, model = compose(toy(family)).eval(), compose(toy(family), Linear(bits=bits)).eval()
    heads = ["head", "head_dist"] if family == "distilled" else ["head"]
    with torch.no_grad():
        for name in heads:
            head = getattr(plain.vit, name)
            head.weight.copy_(fake_quantise(head.weight, level_values(bits).to(head.weight)))
            head.bias.zero_()
        torch.testing.assert_close(model(images(model)), plain(images(plain)), rtol=1e-12, atol=1e-12)
    assert set(model.trained()) == {f"vit.{name}.weight" for name in heads}
    values = {round(value, 9) for value in model.vit.head.rounded_weight().flatten().tolist()}
    assert len(values) <= 2**bits


def test_it_trains_and_folds_into_a_plain_head() -> None:
    model = wake(compose(toy(), "LoRA(rank=2)", Linear(bits=1)))
    before = model.vit.head.weight.detach().clone()
    F.cross_entropy(model(images(model, batch=3)), torch.arange(3)).backward()
    torch.optim.SGD(model.trained().values(), lr=0.1).step()
    assert not torch.equal(model.vit.head.weight, before)
    merged = merge(model.eval())
    assert type(merged.vit.head) is torch.nn.Linear and merged.methods == ()
    with torch.no_grad():
        torch.testing.assert_close(merged(images(model)), model(images(model)), rtol=1e-10, atol=1e-10)


def test_zeros_are_replaced_by_a_start_that_learns() -> None:
    backbone = toy()
    torch.nn.init.zeros_(backbone.head.weight)
    assert compose(backbone, Linear(bits=1)).vit.head.weight.std() > 0


def test_a_file_holds_bits_and_gives_the_same_model_back(tmp_path: Path) -> None:
    model = wake(compose(toy(dtype=torch.float32), "Adapter(width=4)", Linear(bits=1))).eval()
    save(model, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        row = file.get_tensor("vit.head.weight")
        assert "vit.head.bias" not in file.keys()  # noqa: SIM118, not a dict
    assert row.dtype == torch.uint8 and len(row) == 5 * 24 // 8 + 8
    again = load(tmp_path / "model.safetensors", backbone=toy(dtype=torch.float32))
    with torch.no_grad():
        torch.testing.assert_close(again(images(model)), model(images(model)), rtol=1e-4, atol=1e-5)
    save(merge(model), tmp_path / "merged.safetensors", include_backbone=True)
    merged = load(tmp_path / "merged.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(merged(images(model)), model(images(model)), rtol=1e-4, atol=1e-5)


def test_swapping_between_bits_and_floats(tmp_path: Path) -> None:
    files, logits = {}, {}
    for name, methods in {"bits": ["SSF()", Linear(bits=1)], "floats": ["LoRA(rank=2)"]}.items():
        model = compose(toy(dtype=torch.float32), *methods).eval()
        with torch.no_grad():
            for parameter in model.trained().values():
                parameter.add_(torch.randn(parameter.shape) / 20)
            logits[name] = model(images(model))
        files[name] = tmp_path / f"{name}.safetensors"
        save(model, files[name])
    for name in ("bits", "floats", "bits"):
        swap(model, files[name])
        with torch.no_grad():
            torch.testing.assert_close(model(images(model)), logits[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("adapter", "kibibytes"),
    [
        ("LoRA(rank=32, bits=1)", 149.0),
        ("Adapter(width=32, bias=False, bits=1)", 76.8),
        ("LoRA(rank=1, bits=1)", 9.5),
        ("Adapter(width=1, bias=False, bits=1)", 7.1),
    ],
)
def test_bytes_are_those_of_the_published_files(adapter: str, kibibytes: float) -> None:
    """The mean size of the 19 VTAB-1K files of every binary adapter with a 1-bit head, as released."""
    sizes = []
    for task in TASKS.values():
        with shapes_only():
            model = compose("vit_base_patch16_224", adapter, "Linear(bits=1)", num_classes=task.classes)
        assert set(packed_lengths(model)) == set(saved_tensors(model))
        sizes.append(sum(packed_lengths(model).values()))
    assert len(sizes) == 19
    assert sum(sizes) / len(sizes) / 1024 == pytest.approx(kibibytes, abs=0.05)


def test_frozen_features_give_the_same_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, settings = colour_folder(tmp_path / "data"), {"methods": ["Linear(bits=1)"], "augment": "none"}
    calls: list[Any] = []
    own = loop.freeze_features
    monkeypatch.setattr(loop, "freeze_features", lambda *given: calls.append(own(*given)) or calls[-1])
    small_run(tmp_path / "once", data, **settings)
    assert not isinstance(calls[0], str)
    monkeypatch.setattr(loop, "freeze_features", lambda task, accelerator: "for the test")
    small_run(tmp_path / "anew", data, **settings)
    once, anew = weights(tmp_path / "once"), weights(tmp_path / "anew")
    assert set(once) == set(anew) and "vit.head.bias" not in once
    assert once["vit.head.weight"].dtype == torch.uint8
    assert torch.equal(once["vit.head.weight"][:-8], anew["vit.head.weight"][:-8])


def test_a_run_of_other_classes_starts_from_it(tmp_path: Path) -> None:
    """The stored bits of another number of classes are left aside, as float classifiers are."""
    three, four = colour_folder(tmp_path / "three", 4), colour_folder(tmp_path / "four", 4)
    shutil.copytree(tmp_path / "four" / "red", tmp_path / "four" / "more")
    name, settings = "vitrim_tiny_patch8_96", {"epochs": 1, "batch_size": 4}
    first = train(
        name, three, methods=["Linear(bits=1)"], out=tmp_path / "1", training=settings, cpu=True, quiet=True
    )
    again = train(data=four, init=first.folder, out=tmp_path / "2", training=settings, cpu=True, quiet=True)
    assert again.record["init"]["classifier"] == "new"
    assert again.model.num_classes == 4


def test_what_has_no_plain_classifier_is_refused() -> None:
    with pytest.raises(ValueError, match="no linear classifier"):
        compose(toy(), Linear(bits=1), num_classes=0)
    with pytest.raises(ValueError, match="the classifier is a QuantisedHead"):
        compose(toy(), Linear(bits=1), Linear(bits=2))
    hooked = toy()
    hooked.head.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="with hooks"):
        compose(hooked, Linear(bits=1))
    with pytest.raises(ValueError, match="bits must be one of"):
        Linear(bits=3)
