"""Files that do not fit are refused by name and count, before anything is written; nothing in a file is
run."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import timm
import torch
from torch import Tensor, nn

from vitrim import compose
from vitrim.backbones.weights.reading import read_weights

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

NAME = "vit_tiny_patch16_224"
State = dict[str, Tensor]


def state() -> State:
    return dict(timm.create_model(NAME, img_size=32, num_classes=3).state_dict())


def without(given: State, part: str) -> State:
    return {key: value for key, value in given.items() if part not in key}


def other(name: str, **options: Any) -> State:
    return dict(timm.create_model(name, **options).state_dict())


def dinov2() -> State:
    shape = {"hidden_size": 384, "num_hidden_layers": 2, "num_attention_heads": 6, "patch_size": 14}
    return dict(transformers.Dinov2Model(transformers.Dinov2Config(**shape, image_size=28)).state_dict())


# What is written to a .pth, and words of the sentence.
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "one weight missing": (
        lambda: without(state(), "blocks.3.mlp.fc1.weight"),
        "1 of the model's 152 tensors are missing (blocks.3.mlp.fc1.weight)",
    ),
    "half the blocks": (
        lambda: {
            k: v for k, v in state().items() if not k.startswith(tuple(f"blocks.{i}." for i in range(6, 12)))
        },
        "72 of the model's 152 tensors are missing (blocks.6.norm1.weight, blocks.6.norm1.bias ...)",
    ),
    "more blocks": (
        lambda: other(NAME, img_size=32, depth=14, num_classes=3),
        "24 of the file's have no place in the model (blocks.12.norm1.weight, blocks.12.norm1.bias ...)",
    ),
    "no final norm": (
        lambda: {
            k.replace("norm.", "fc_norm.") if k.startswith("norm.") else k: v for k, v in state().items()
        },
        "2 of the model's 152 tensors are missing (norm.weight, norm.bias), 2 of the file's have no place",
    ),
    "another width": (
        lambda: other("vit_small_patch16_224", img_size=32),
        "the file looks like timm's ViT-S/16 (12 blocks of width 384), the model is a ViT-Ti/16 (12 "
        "blocks of width "
        "192)",
    ),
    "another patch": (
        lambda: other("vit_tiny_patch16_224", patch_size=8, img_size=32),
        "1 have another shape (patch_embed.proj.weight: (192, 3, 8, 8) instead of (192, 3, 16, 16))",
    ),
    "other channels": (
        lambda: other(NAME, in_chans=1, img_size=32),
        "(192, 1, 16, 16) instead of (192, 3, 16, 16)",
    ),
    "registers": (lambda: other(NAME, reg_tokens=4, img_size=32), "no place in the model (reg_token)"),
    "another library's other model": (
        dinov2,
        "the file looks like transformers' DINOv2 ViT-S/14 (2 blocks of width 384), the model is a ViT-Ti/16",
    ),
    "no transformer": (
        lambda: other("resnet18"),
        "holds no Vision Transformer under any names vitrim knows: 122",
    ),
    "nothing": (lambda: {"state_dict": {}}, "holds no tensors"),
    "an optimiser": (
        lambda: torch.optim.AdamW(nn.Linear(2, 2).parameters()).state_dict(),
        "holds no tensors",
    ),
    "two backbones": (
        lambda: {**{"a." + k: v for k, v in state().items()}, **{"b." + k: v for k, v in state().items()}},
        "holds 2 backbones, below 'a.' and 'b.'",
    ),
    "a classifier of several layers": (
        lambda: {
            **{"backbone." + k: v for k, v in without(state(), "head.").items()},
            "head.0.weight": torch.ones(8, 192),
            "head.2.weight": torch.ones(3, 8),
        },
        "2 of the file's have no place in the model (head.0.weight, head.2.weight)",
    ),
    "quantised": (
        lambda: {k: v.to(torch.int8) if k.endswith("fc1.weight") else v for k, v in state().items()},
        "12 are whole numbers, as quantised weights are (blocks.0.mlp.fc1.weight",
    ),
    "a LoRA adapter": (
        lambda: {f"base_model.model.blocks.{i}.attn.qkv.lora_A.weight": torch.ones(2, 192) for i in range(2)},
        "holds no Vision Transformer",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_files_are_refused(kind: str, tmp_path: Path) -> None:
    make, words = WRONG[kind]
    torch.save(make(), tmp_path / "w.pth")
    with pytest.raises(ValueError) as caught:
        compose(NAME, weights=tmp_path / "w.pth", image_size=32, num_classes=3)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused_by_name(value: float, tmp_path: Path) -> None:
    weights = state()
    weights["blocks.5.mlp.fc1.bias"] = torch.full_like(weights["blocks.5.mlp.fc1.bias"], value)
    torch.save(weights, tmp_path / "c.pth")
    with pytest.raises(ValueError, match=r"1 tensors .* no numbers .*blocks\.5\.mlp\.fc1\.bias"):
        compose(NAME, weights=tmp_path / "c.pth", image_size=32, num_classes=3)


def test_a_key_bias_that_the_model_cannot_hold_is_refused(tmp_path: Path) -> None:
    model = timm.create_model("vit_small_patch16_dinov3", depth=1)
    named = dict(model.state_dict())
    named |= {"blocks.0.attn.qkv.bias": torch.ones(3 * 384)}
    torch.save(named, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"no place in the model \(blocks.0.attn.qkv.bias\)"):
        from vitrim.backbones.opening import fill_from_file

        fill_from_file(tmp_path / "w.pth", "mine", lambda classes: model)


class Trap:
    """What a hostile file asks the reader to call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("trapped",)


def hostile(kind: str, path: Path) -> None:
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"model": Trap()}))
    elif kind == "torch":
        torch.save({"model": Trap()}, path)
    elif kind == "old torch":
        torch.save({"model": Trap()}, path, _use_new_zipfile_serialization=False)
    else:
        array = io.BytesIO()
        numpy.save(array, numpy.array([Trap()], dtype=object), allow_pickle=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("cls.npy", array.getvalue())


@pytest.mark.parametrize("kind", ["pickle", "torch", "old torch", "numpy"])
def test_nothing_in_a_file_is_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("w.pth", "w.npz", "w.safetensors"):
        hostile(kind, tmp_path / name)
        with pytest.raises(ValueError, match="w"):
            compose(NAME, weights=tmp_path / name)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02", b"\x10\0\0\0\0\0\0\0{}"])
def test_damaged_files_get_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.pth") as caught:
        read_weights(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


def test_a_torchscript_program_is_not_run(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "w.pt")
    with pytest.raises(ValueError, match="TorchScript"):
        read_weights(tmp_path / "w.pt")


SENTENCES = {
    "a repository of the hub is hf-hub:timm/vit_tiny": lambda: compose("timm/vit_tiny"),
    "no folder 'some/where/else'": lambda: compose("some/where/else"),
    "ViTModel is a module of transformers, and vitrim runs timm's; save it with save_pretrained": lambda: (
        compose(
            transformers.ViTModel(
                transformers.ViTConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2)
            )
        )
    ),
    "Linear is a module of torch": lambda: compose(nn.Linear(2, 2)),
    "did you mean vit_tiny_patch16_224": lambda: compose("vit_tiny_patch16_225"),
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_names_and_modules(sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        SENTENCES[sentence]()
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_suggestions_are_models_that_run() -> None:
    with pytest.raises(ValueError) as caught:
        compose("xcit_tiny_12_p16_22")
    assert "xcit" not in str(caught.value).split(";")[1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "has no config.json"),
        ("[", "config.json of"),
        ("[1]", "is no object"),
        ('{"model_type": "bert"}', "holds a model of type 'bert'"),
        ('{"model_type": "vit", "hidden_size": 24}', "lacks 'num_"),
        ('{"architecture": "vit_gone"}', "which this timm does not have"),
        (
            '{"model_type": "vit", "hidden_size": 24, "num_hidden_layers": 1000000000, '
            '"num_attention_heads": 2}',
            "depth",
        ),
    ],
)
def test_damaged_folders_get_a_sentence(content: str | None, words: str, tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "pytorch_model.bin")
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError) as caught:
        compose(str(tmp_path))
    assert words in str(caught.value) and "\n" not in str(caught.value)
