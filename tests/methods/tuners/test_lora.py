"""LoRA equals the official implementation, in floats and in bits, on every way to compute queries."""

from itertools import product
from pathlib import Path

import pytest
import torch
import tuned
from golden import Golden, assert_close
from safetensors.torch import load_file
from toys import images, toy

import vitrim
from vitrim import Adapter, EViT, LoRA, compose
from vitrim.backbones.tuned_linear import SummedLinear, linear_rows
from vitrim.network.model import StagedViT


def golden_model(case: str) -> tuple[StagedViT, Golden, dict[str, str]]:
    golden = Golden(case)
    settings = golden.about["hyper"]
    bits = None if settings["bit"] == 32 else settings["bit"]
    model = compose(golden.backbone(), LoRA(rank=settings["dim"], scale=settings["scale"], bits=bits))
    names = {}
    for i, role, half in product(range(model.depth), ("query", "value"), ("down", "up")):
        official = f"blocks.{i}.attn.lora_{role[0]}.adapter_{half}.weight"
        names[f"vit.blocks.{i}.attn.qkv.terms.{role}.{half}.weight"] = official
    tuned.set_values(model, golden, names)
    return model.eval(), golden, names


@pytest.mark.parametrize("case", ["lora_b32_d8", "bilora_b1_d32"])
def test_equals_the_official_implementation(case: str) -> None:
    model, golden, names = golden_model(case)
    with torch.no_grad():
        assert_close(model(golden.images()), golden["logits"])
        assert_close(model.run(golden.images())[0], golden["logits"])
        assert_close(vitrim.merge(model)(golden.images()), golden["logits"])
    tuned.check_gradients(model, golden, names)


def test_saved_bits_are_the_official_bytes_and_load_as_they_do(tmp_path: Path) -> None:
    model, golden, names = golden_model("bilora_b1_d32")
    vitrim.save(model, tmp_path / "bits.safetensors", include_backbone=False)
    stored = load_file(tmp_path / "bits.safetensors")
    rows = torch.stack([stored[name] for name in names])  # the official order: module by module
    assert torch.equal(rows[:, :-8].flatten(), golden["q_packed_concat"])
    assert_close(rows[:, -8:].contiguous().view(torch.float32).double(), golden["q_mean_std"], relative=1e-6)
    again = vitrim.load(tmp_path / "bits.safetensors", backbone=golden.backbone())
    with torch.no_grad():
        assert_close(again(golden.images()), golden["logits_after_bin_roundtrip"], relative=1e-5)
    vitrim.save(again, tmp_path / "again.safetensors", include_backbone=False)
    twice = load_file(tmp_path / "again.safetensors")
    assert all(torch.equal(twice[name][:-8], stored[name][:-8]) for name in names)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("method", [LoRA(rank=4), Adapter(width=4, bias=False)], ids=["lora", "adapter"])
def test_bits_come_back_from_a_file(tmp_path: Path, bits: int, method: LoRA | Adapter) -> None:
    model = tuned.stirred(type(method)(**{**vars(method), "bits": bits}))
    vitrim.save(model, tmp_path / "bits.safetensors")
    again = vitrim.load(tmp_path / "bits.safetensors", backbone=tuned.backbone())
    torch.testing.assert_close(tuned.logits(again), tuned.logits(model), rtol=1e-5, atol=1e-5)


def test_a_one_bit_adapter_for_vit_base_takes_74_kilobytes(tmp_path: Path) -> None:
    model = compose("vit_base_patch16_224", Adapter(width=32, bias=False, bits=1), num_classes=10)
    vitrim.save(model, tmp_path / "bits.safetensors", include_backbone=False)
    size = (tmp_path / "bits.safetensors").stat().st_size - 4 * 10 * 769
    assert 73_920 < size < 78_000  # the bytes themselves, then names and what the file says about itself


ALL_ROLES = ("query", "key", "value", "attention_out", "mlp_in", "mlp_out")
METHODS = [
    LoRA(rank=3, scale=0.5),
    LoRA(rank=2, roles=ALL_ROLES, alpha=4, dropout=0.0),
    LoRA(rank=(0, 1, 2) * 2, roles=("key", "mlp_out")),
    LoRA(rank=2, bits=4),
]
FAMILIES = ["vit", "dinov2-registers", "siglip", "dinov3", "dinov3-qkvb", "eva02", "pe-core"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_folds_exactly(method: LoRA, family: str) -> None:
    tuned.check_folds(method, family=family)


@pytest.mark.parametrize("reducer", ["EViT(keep=0.5, at=(1, 4))", "ToMe(r=3)"])
def test_folds_exactly_with_fewer_tokens(reducer: str) -> None:
    tuned.check_folds(METHODS[1], reducer)
    tuned.check_folds(LoRA(rank=2, roles=ALL_ROLES[:3], shared=True), reducer)


@pytest.mark.parametrize("method", METHODS[:3], ids=str)
@pytest.mark.parametrize("family", ["vit", "eva02"])
def test_the_start_is_the_backbone(method: LoRA, family: str) -> None:
    tuned.check_starts_unchanged(method, family)
    tuned.check_matters(method, family)


@pytest.mark.parametrize("family", ["vit", "eva02"])
def test_training_moves_lora_and_head_only(family: str) -> None:
    tuned.check_training(METHODS[1], EViT(keep=0.5, at=(2,)), family=family)


def test_saving_and_loading(tmp_path: Path) -> None:
    tuned.check_round_trip(METHODS[1], tmp_path)
    tuned.check_round_trip(METHODS[2], tmp_path, family="eva02")


@pytest.mark.parametrize(
    "method", [METHODS[0], LoRA(roles=ALL_ROLES[:3], shared=True), "SSF()", "FacT()", "RepAdapter()"]
)
def test_part_of_a_tuned_layer_is_that_part(method: LoRA | str) -> None:
    model = tuned.stirred(method)
    layer = model.vit.blocks[0].attn.qkv
    inputs = torch.randn(2, 3, 24, dtype=torch.float64)
    for rows in (slice(0, 24), slice(24, 72), slice(10, 60)):
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                torch.testing.assert_close(linear_rows(layer, inputs, rows), layer(inputs)[..., rows])


def test_dropout_acts_between_a_and_b_in_training_only() -> None:
    model = tuned.stirred(LoRA(dropout=0.5))
    x = images(model)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_frozen_layers_keep_no_inputs() -> None:
    """A backward pass needs x of LoRA's A in every block, but no input of a frozen linear layer."""
    model = compose(toy(), LoRA(roles=("query",)), num_classes=5)
    kept: list[tuple[int, ...]] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(tuple(t.shape)) or t, lambda t: t):
        model(images(model))
    weights = {tuple(p.shape) for n, p in model.named_parameters() if not p.requires_grad and p.ndim == 2}
    wide = [shape for shape in kept if shape[-1] == 96 and shape not in weights]
    assert len(wide) <= 12  # of the 4 D wide hidden activations, GELU's input in each block and nothing else


def test_two_lora_on_different_layers_go_together() -> None:
    tuned.check_folds(LoRA(rank=2), LoRA(rank=3, roles=("mlp_in",)))


@pytest.mark.parametrize(
    ("methods", "family", "sentence"),
    [
        (("LoRA()", "SSF()"), "vit", r"SSF\(\): query of block 0 already carries LoRA; one tuner per layer"),
        (
            ("SSF()", "LoRA()"),
            "vit",
            r"LoRA\(.*\): query of block 0 already carries SSF; one tuner per layer",
        ),
        (("Full()", "LoRA()"), "vit", r"LoRA\(.*\): the weight of query of block 0 already trains"),
        (("LoRA()", "Full()"), "vit", r"Full\(\) trains every weight, but LoRA keeps some frozen"),
        (("LoRA(rank=(1, 2))",), "vit", "2 ranks for 12 blocks; give one each"),
        (
            ("LoRA(roles=('query', 'key', 'value'), shared=True)",),
            "eva02",
            "are separate layers here and share no A",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(methods: tuple[str, ...], family: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        compose(toy(family), *methods)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rank": 0}, "rank must be a whole number of at least 1, got 0"),
        ({"rank": (0, 0)}, "rank must be above 0 in at least one block"),
        ({"rank": (1, -2)}, "rank must be a whole number of at least 1, got -2"),
        ({"scale": float("nan")}, "scale must be a number"),
        ({"scale": 2.0, "alpha": 4}, "give scale or a number alpha, got 2.0 and 4"),
        ({"roles": ()}, "roles is empty; name at least one of query"),
        ({"roles": ("norm",)}, "roles must be one of 'query'"),
        ({"shared": True}, "shared=True needs the roles query, key and value"),
        ({"bits": 3}, "bits must be one of 1, 2, 4, 8, got 3"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
    ],
)
def test_bad_settings_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"LoRA: {sentence}"):
        LoRA(**settings)


def test_alpha_is_the_factor_times_the_rank() -> None:
    layer = compose(toy(), LoRA(rank=(2, 4) * 6, alpha=8)).vit.blocks[1].attn.qkv
    assert isinstance(layer, SummedLinear) and layer.terms["query"].scale == 2
