"""Files that other libraries write, all their weights random: the model they load into computes what the
other library's own model does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import Tensor, nn
from toys import FAMILIES, MORE_FAMILIES, toy, wake
from toys import images as toy_images

from vitrim import compose
from vitrim.backbones.opening import fill_from_file
from vitrim.backbones.structure import build
from vitrim.backbones.transformers_configs import CONFIGS

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SHAPE: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
TEXT = {**SHAPE, "vocab_size": 50, "num_hidden_layers": 1, "bos_token_id": 0, "eos_token_id": 1}
CLASSIFIER = {**SHAPE, "num_labels": 5}


def clip_model() -> nn.Module:
    config = transformers.CLIPConfig(
        vision_config={**SHAPE, "projection_dim": 7}, text_config=TEXT, projection_dim=7
    )
    return transformers.CLIPModel(config)


def first_token(model: nn.Module, images: Tensor) -> Tensor:
    return model(pixel_values=images).last_hidden_state[:, 0]


def pooled(model: nn.Module, images: Tensor) -> Tensor:
    return model(pixel_values=images).pooler_output


def logits(model: nn.Module, images: Tensor) -> Tensor:
    return model(pixel_values=images).logits


t = transformers
MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, Tensor], Tensor]]] = {
    "vit": (lambda: t.ViTForImageClassification(t.ViTConfig(**CLASSIFIER)), logits),
    "vit without classifier": (lambda: t.ViTModel(t.ViTConfig(**SHAPE)), first_token),
    "deit": (lambda: t.DeiTForImageClassificationWithTeacher(t.DeiTConfig(**CLASSIFIER)), logits),
    "dinov2": (lambda: t.Dinov2Model(t.Dinov2Config(**SHAPE)), first_token),
    "dinov2 with registers": (
        lambda: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**SHAPE)),
        first_token,
    ),
    "dinov3": (lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**SHAPE, num_register_tokens=4)), first_token),
    "dinov3 gated": (
        lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**SHAPE, use_gated_mlp=True, hidden_act="silu")),
        first_token,
    ),
    "siglip": (lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**SHAPE)), pooled),
    "clip vision": (lambda: t.CLIPVisionModel(t.CLIPVisionConfig(**SHAPE)), pooled),
    "clip": (clip_model, lambda model, images: model.get_image_features(pixel_values=images).pooler_output),
}


def images(channels: int = 3, side: int = 32) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(3))


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-6 * max(1.0, float(theirs.abs().max()) * 4)


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_of_transformers(name: str, tmp_path: Path) -> None:
    make, call = MODELS[name]
    model = wake(make()).eval()
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    ours = compose(str(tmp_path)).eval()
    with torch.no_grad():
        close(ours(images()), call(model, images()))


@pytest.mark.parametrize("name", MODELS)
def test_the_state_dict_of_a_wrapped_transformers_model(name: str, tmp_path: Path) -> None:
    make, call = MODELS[name]
    model = wake(make()).eval()
    file = tmp_path / "last.ckpt"
    state = {f"model._orig_mod.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state, "optimizer_states": [{"state": {}}], "epoch": 3}, file)
    inner = getattr(model.config, "vision_config", model.config)
    described = CONFIGS[str(inner.model_type)](inner.to_dict())
    ours = fill_from_file(file, "mine", lambda classes: build(described, num_classes=classes)).eval()
    with torch.no_grad():
        close(ours(images()), call(model, images()))


def test_torchvision(tmp_path: Path) -> None:
    model = torchvision.models.VisionTransformer(32, 8, 3, 2, 192, 768, num_classes=5)
    wake(model).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    described = {
        "class": "VisionTransformer",
        "arguments": {
            "img_size": 32, "patch_size": 8, "embed_dim": 192, "depth": 3, "num_heads": 2,
            "norm": ["torch", 1e-6],
        },
    }  # fmt: skip
    ours = fill_from_file(tmp_path / "weights.pth", "mine", lambda n: build(described, num_classes=n)).eval()
    assert ours.pretrained_cfg["mean"] == (0.485, 0.456, 0.406)
    with torch.no_grad():
        close(ours(images()), model(images()))


def tiny(**options: Any) -> nn.Module:
    made = timm.create_model(
        "vit_tiny_patch16_224", **{"num_classes": 7, "img_size": 32, "depth": 2, **options}
    )
    return wake(made).eval()


def same(file: Path, expected: nn.Module, **options: Any) -> None:
    def make(classes: int) -> nn.Module:
        return tiny(num_classes=classes, **options)

    ours = fill_from_file(file, "mine", make)
    with torch.no_grad():
        for parameter in ours.parameters():
            assert parameter.isfinite().all()
        close(ours(images()), expected(images()))


OPENAI = (
    (".attn.qkv.", ".attn.in_proj_"), (".attn.proj.", ".attn.out_proj."), (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."), (".norm1.", ".ln_1."), (".norm2.", ".ln_2."),
    ("blocks.", "transformer.resblocks."), ("norm_pre.", "ln_pre."), ("patch_embed.proj.", "conv1."),
)  # fmt: skip


def openai_names(model: nn.Module) -> dict[str, Tensor]:
    """What OpenAI's release would hold for this model: its own names, bare vectors, the projection turned."""
    state = {}
    for key, value in model.state_dict().items():
        for ours, theirs in OPENAI:
            key = key.replace(ours, theirs)
        key = "ln_post." + key.removeprefix("norm.") if key.startswith("norm.") else key
        state[key] = value
    head, _ = state.pop("head.weight"), state.pop("head.bias")
    state["proj"] = head.T.contiguous()
    state["class_embedding"] = state.pop("cls_token").flatten()
    state["positional_embedding"] = state.pop("pos_embed")[0]
    return state


def test_openai_clip_needs_its_own_activation(tmp_path: Path) -> None:
    model = tiny(pre_norm=True, act_layer="quick_gelu")
    with torch.no_grad():
        model.head.bias.zero_()  # type: ignore[union-attr, operator]
    state = {f"visual.{key}": value for key, value in openai_names(model).items()}
    file = tmp_path / "clip.pt"
    torch.save({**state, "token_embedding.weight": torch.zeros(5, 3), "logit_scale": torch.zeros(())}, file)
    same(file, model, pre_norm=True, act_layer="quick_gelu")
    official = {**state, "input_resolution": torch.tensor(32), "vocab_size": torch.tensor(5)}
    torch.save(official, file)
    same(file, model, pre_norm=True, act_layer="quick_gelu")
    with pytest.raises(ValueError, match="quickgelu"):
        same(file, model, pre_norm=True)


def google_arrays(model: Any, stacked: bool) -> dict[str, numpy.ndarray]:
    """What Google's checkpoints would hold for this model."""
    width, heads = 192, model.blocks[0].attn.num_heads
    first, ln, mlp = (0, 1, 0) if stacked else (1, 2, 3)
    found: dict[str, Tensor] = {
        "cls": model.cls_token,
        "embedding/kernel": model.patch_embed.proj.weight.permute(2, 3, 1, 0),
        "embedding/bias": model.patch_embed.proj.bias,
        "Transformer/encoder_norm/scale": model.norm.weight,
        "Transformer/encoder_norm/bias": model.norm.bias,
        "head/kernel": model.head.weight.T,
        "head/bias": model.head.bias,
        ("" if stacked else "Transformer/posembed_input/") + "pos_embedding": model.pos_embed,
    }
    blocks = []
    for block in model.blocks:
        at: dict[str, Tensor] = {}
        for number, norm in ((0, block.norm1), (ln, block.norm2)):
            at |= {f"LayerNorm_{number}/scale": norm.weight, f"LayerNorm_{number}/bias": norm.bias}
        attention = f"MultiHeadDotProductAttention_{first}"
        pairs = zip(block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3), strict=True)
        for part, (weight, bias) in zip(("query", "key", "value"), pairs, strict=True):
            at[f"{attention}/{part}/kernel"] = weight.T.reshape(width, heads, -1)
            at[f"{attention}/{part}/bias"] = bias.reshape(heads, -1)
        at[f"{attention}/out/kernel"] = block.attn.proj.weight.T.reshape(heads, -1, width)
        at[f"{attention}/out/bias"] = block.attn.proj.bias
        for number, layer in enumerate((block.mlp.fc1, block.mlp.fc2)):
            at[f"MlpBlock_{mlp}/Dense_{number}/kernel"] = layer.weight.T
            at[f"MlpBlock_{mlp}/Dense_{number}/bias"] = layer.bias
        blocks.append(at)
    if stacked:
        for key in blocks[0]:
            found[f"Transformer/encoderblock/{key}"] = torch.stack([block[key] for block in blocks])
    else:
        for index, block in enumerate(blocks):
            found |= {f"Transformer/encoderblock_{index}/{key}": value for key, value in block.items()}
    prefix = "params/" if stacked else ""
    return {prefix + key: value.detach().contiguous().numpy() for key, value in found.items()}


@pytest.mark.parametrize("stacked", [False, True], ids=["vision_transformer", "big_vision"])
def test_google_arrays(stacked: bool, tmp_path: Path) -> None:
    model = tiny()
    arrays = google_arrays(model, stacked)
    numpy.savez(tmp_path / "w.npz", **arrays)  # type: ignore[arg-type]
    same(tmp_path / "w.npz", model)
    if not stacked:  # timm's own reader of these files agrees
        other = tiny()
        other.load_pretrained(str(tmp_path / "w.npz"))  # type: ignore[operator]
        close(other(images()), model(images()))


def renamed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


HEADS = {"head.mlp.0.weight": torch.ones(3, 192), "head.last_layer.weight_g": torch.ones(3, 1)}


def wraps(state: dict[str, Tensor]) -> dict[str, Any]:
    """Checkpoints as training programs write them, around one model's state dict."""
    body = {key: value for key, value in state.items() if not key.startswith("head.")}
    head = {key: value for key, value in state.items() if key.startswith("head.")}
    other = {key: value + 1 for key, value in state.items()}
    fsdp = {
        key.replace("blocks.0.", "_fsdp_wrapped_module.blocks.0._fsdp_wrapped_module."): value
        for key, value in state.items()
    }
    return {
        "DDP": renamed(state, "module."),
        "compiled": renamed(state, "_orig_mod."),
        "compiled inside DDP": renamed(state, "module._orig_mod."),
        "FSDP": fsdp,
        "Lightning": {"state_dict": renamed(state, "model."), "loops": {"fit": {"x": torch.ones(2)}}},
        "Lightning with metrics": {
            "state_dict": {
                **renamed(state, "net."),
                "train_acc.tp": torch.ones(1),
                "criterion.weight": torch.ones(7),
            }
        },
        "classifier beside the backbone": {
            **renamed(body, "backbone."),
            **{"classifier." + key.removeprefix("head."): value for key, value in head.items()},
        },
        "timm's training": {"state_dict": other, "state_dict_ema": state, "optimizer": {"state": {0: other}}},
        "EMA of DeiT": {"model": other, "model_ema": state, "epoch": 3},
        "averaged by torch": {"n_averaged": torch.tensor(3), **renamed(state, "module.")},
        "PEFT": renamed(state, "base_model.model."),
        "DeepSpeed": {"module": state},
        "HF trainer": {"model_state_dict": renamed(state, "encoder.")},
        "two-level": {"checkpoint": {"network": {"vit": state}}},
    }


@pytest.mark.parametrize("name", wraps({}))
def test_wrapped_checkpoints(name: str, tmp_path: Path) -> None:
    model = tiny()
    torch.save(wraps(model.state_dict())[name], tmp_path / "w.pth")
    same(tmp_path / "w.pth", model)


def pretrained(state: dict[str, Tensor]) -> dict[str, Any]:
    """Checkpoints of self-supervised training: no classifier, and parts that only pretraining needs."""
    other = {key: value + 1 for key, value in state.items()}
    chunked = {
        (f"blocks.0.{key.removeprefix('blocks.')}" if key.startswith("blocks.") else key): value
        for key, value in state.items()
    }
    mae = {"mask_token": torch.ones(4), "decoder_embed.weight": torch.ones(4, 192)}
    head = {"dino_head.mlp.0.weight": torch.ones(3)}
    return {
        "DINO": {
            "student": renamed({**renamed(other, "backbone."), **HEADS}, "module."),
            "teacher": {**renamed(state, "backbone."), **HEADS},
            "dino_loss": {"center": torch.ones(1, 3)},
        },
        "iBOT": {"teacher": renamed({**state, "masked_embed": torch.ones(1, 192)}, "backbone.")},
        "DINOv2 in chunks": {"teacher": {**renamed(chunked, "backbone."), **head}},
        "MAE": {"model": {**state, **mae}},
        "MoCo v3": {
            "state_dict": {
                **renamed({**state, "head.0.weight": torch.ones(4, 192)}, "module.base_encoder."),
                **renamed(other, "module.momentum_encoder."),
                "module.predictor.0.weight": torch.ones(3, 3),
            }
        },
        "open_clip around timm": {
            **renamed(state, "visual.trunk."),
            "text.transformer.resblocks.0.ln_1.weight": torch.ones(3),
            "logit_scale": torch.ones(()),
        },
    }


@pytest.mark.parametrize("name", pretrained({}))
def test_pretraining_checkpoints(name: str, tmp_path: Path) -> None:
    model = tiny(num_classes=0)
    torch.save(pretrained(model.state_dict())[name], tmp_path / "w.pth")
    same(tmp_path / "w.pth", model)


def test_safetensors_and_half_precision(tmp_path: Path) -> None:
    model = tiny().half().float()
    state = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    same(tmp_path / "w.safetensors", model)


def test_eva_as_released(tmp_path: Path) -> None:
    model = toy("eva02", torch.float32)
    swaps = (
        (".mlp.fc1_g.", ".mlp.w1."), (".mlp.fc1_x.", ".mlp.w2."), (".mlp.fc2.", ".mlp.w3."),
        (".mlp.norm.", ".mlp.ffn_ln."), ("q_proj.bias", "q_bias"), ("v_proj.bias", "v_bias"),
    )  # fmt: skip
    state = {}
    for key, value in model.state_dict().items():
        for ours, theirs in swaps:
            key = key.replace(ours, theirs)
        state[key] = value
    torch.save({"module": {**state, "rope.freqs_cos": torch.ones(4)}}, tmp_path / "eva.pt")
    blank = toy("eva02", torch.float32, seed=9)
    ours = fill_from_file(tmp_path / "eva.pt", "mine", lambda classes: blank)
    with torch.no_grad():
        close(ours(images()), model(images()))


def test_another_image_size_is_resized_as_timm_does(tmp_path: Path) -> None:
    model = tiny(img_size=48)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    resized = tiny(img_size=48)
    resized.set_input_size(img_size=32)  # type: ignore[operator]
    ours = fill_from_file(tmp_path / "w.pth", "mine", lambda classes: tiny(num_classes=classes))
    close(ours(images()), resized(images()))


def test_a_repository_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    asked = []

    def fetch(repository: str, file: str) -> str:
        asked.append((repository, file))
        if repository == "gone/away":
            raise LocalEntryNotFoundError("no network")
        if not (tmp_path / file).is_file():
            raise EntryNotFoundError(f"no {file}")
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    model = tiny(depth=12)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "model.safetensors"
    )
    about = {"architecture": "vit_tiny_patch16_224", "num_classes": 7, "model_args": {"img_size": 32}}
    config = {
        **about,
        "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "interpolation": "bilinear"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = compose("hf-hub:owner/name").eval()
    assert asked[:2] == [("owner/name", "config.json"), ("owner/name", "model.safetensors")]
    assert ours.preprocess.mean == (0.1, 0.2, 0.3) and ours.preprocess.interpolation == "bilinear"
    with torch.no_grad():
        close(ours(images()), model(images()))
    with pytest.raises(
        ValueError, match=r"could not fetch config.json of hf-hub:gone/away: no network; download"
    ):
        compose("hf-hub:gone/away")


@pytest.mark.parametrize("family", FAMILIES | MORE_FAMILIES)
def test_timm_s_own_file_of_every_structure(family: str, tmp_path: Path) -> None:
    model, blank = (toy(family, torch.float32, seed, depth=2) for seed in (0, 9))
    torch.save({"state_dict": renamed(dict(model.state_dict()), "module.")}, tmp_path / "w.pth")
    ours = fill_from_file(tmp_path / "w.pth", "mine", lambda classes: blank)
    batch = toy_images(model)
    with torch.no_grad():
        assert torch.equal(ours.eval()(batch), model(batch))


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "cait_xxs24_224", "vit_pwee_patch16_reg1_gap_256"])
def test_a_folder_of_timm(name: str, prefix: str, tmp_path: Path) -> None:
    model = wake(timm.create_model(name, num_classes=3, img_size=32)).eval()
    save_for_hf(model, tmp_path, model_args={"img_size": 32}, safe_serialization=True)
    ours = compose(prefix + str(tmp_path)).eval()
    with torch.no_grad():
        close(ours(images()), model(images()))
