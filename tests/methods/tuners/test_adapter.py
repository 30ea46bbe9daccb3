"""Adapters: outputs and gradients of the released code, the classic variants, starts, parameter counts."""

from functools import cache

import pytest
import torch
from golden import Golden, assert_close
from timm import create_model
from toys import images, toy

from vitrim import Adapter, compose, parse_method
from vitrim.backbones.shapes import shapes_only
from vitrim.methods.quantising.linear import QuantisedLinear
from vitrim.network.model import StagedViT

CASES = ("adaptformer_b32_d8", "biadaptformer_b2_d8_img224")


@cache
def golden_model(name: str) -> tuple[Golden, StagedViT]:
    golden = Golden(name)
    hyper = golden.about["hyper"]
    bits = None if hyper["bit"] == 32 else hyper["bit"]
    model = compose(golden.backbone(), Adapter(hyper["dim"], hyper["scale"], bias=False, bits=bits)).eval()
    with torch.no_grad():
        for name, weight in golden.weights().items():
            if "adapter_mlp" in name:
                _, block, _, layer, _ = name.split(".")
                adapter = model.stages[int(block)].beside_mlp[0].adapter
                getattr(adapter, layer.removeprefix("adapter_")).weight.copy_(weight)
    return golden, model


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_released_code(name):
    golden, model = golden_model(name)
    with torch.no_grad():
        assert_close(model(golden.images()), golden["logits"])
        logits, state = model.run(golden.images())
    assert_close(logits, golden["logits"])
    last = len(model.stages) - 1
    assert_close(state.tokens[:, 0, :8], golden[f"block{last}_first8"])


def test_gradients_are_those_of_the_released_code():
    golden, model = golden_model("adaptformer_b32_d8")
    model.requires_grad_(True)
    logits = model(golden.images())
    assert_close(logits, golden["train_logits"])
    loss = logits.square().mean()
    assert_close(loss, golden["train_loss"])
    loss.backward()
    for index, name in enumerate(golden.about["grad_names"]):
        if "adapter_mlp" in name:
            _, block, _, layer, _ = name.split(".")
            layer = getattr(model.stages[int(block)].beside_mlp[0].adapter, layer.removeprefix("adapter_"))
            gradient = layer.weight.grad
        else:
            gradient = model.vit.get_parameter(name).grad
        assert_close(gradient.norm(), golden["grad_norm"][index], 1e-8)
        assert_close(gradient.flatten()[:8], golden["grad_first8"][index][: gradient.numel()], 1e-8)


def test_packed_weights_are_those_of_the_released_file():
    golden, model = golden_model("biadaptformer_b2_d8_img224")
    layers = {
        f"blocks.{i}.adapter_mlp.adapter_{half}": getattr(stage.beside_mlp[0].adapter, half)
        for i, stage in enumerate(model.stages)
        for half in ("down", "up")
    }
    packed = [layers[name].packed() for name in golden.about["qlayers_in_file_order"]]
    assert torch.equal(torch.cat([one.levels for one in packed]), golden["q_packed_concat"])
    assert_close(torch.stack([torch.stack(one[1:]) for one in packed]).double(), golden["q_mean_std"], 1e-6)


def vit_base() -> torch.nn.Module:
    with shapes_only():
        return create_model("vit_base_patch16_224", num_classes=0)


COUNTS = {
    "Adapter(width=8)": 156_768,
    "Adapter(width=16)": 304_320,
    "Adapter(width=64)": 1_189_632,
    "Adapter(width=8, bias=False)": 147_456,
    "Adapter(width=32, bias=False, bits=1)": 589_824,
    "Adapter(width=8, norm='in')": 175_200,
    "Adapter(width=8, form='sequential')": 156_768,
    "Adapter(width=8, form='sequential', beside=('attention', 'mlp'))": 313_536,
    "Adapter(width=64, form='sequential', beside=('attention', 'mlp'))": 2_379_264,
    "Adapter(width=8, learn_scale='scalar')": 156_768 + 12,
    "Adapter(width=8, learn_scale='channel')": 156_768 + 12 * 768,
}


@pytest.mark.parametrize("text", COUNTS)
def test_parameter_counts_on_vit_base(text):
    with shapes_only():
        model = compose(vit_base(), text)
    assert sum(parameter.numel() for parameter in model.trained().values()) == COUNTS[text]


SILENT = (
    "Adapter(beside='attention')",
    "Adapter(form='sequential', beside=('attention', 'mlp'), activation='quickgelu')",
    "Adapter(norm='in', activation='gelu', learn_scale='channel', scale=0.5)",
    "Adapter(norm='out', learn_scale='scalar')",
)


@pytest.mark.parametrize("text", SILENT)
def test_every_variant_starts_as_the_backbone_and_learns_in_all_its_weights(text):
    vit = toy()
    batch = images(vit)
    with torch.no_grad():
        plain = vit(batch)
    model = compose(vit, text)
    assert_close(model(batch), plain, 1e-12)
    torch.manual_seed(0)  # by chance, no unit of the last block might be active on its few tokens
    for parameter in model.trained().values():
        torch.nn.init.normal_(parameter, std=0.3)
    model(batch).square().sum().backward()
    assert not [name for name, p in model.trained().items() if not p.grad.abs().sum() > 0]


def test_a_sequential_adapter_reads_what_the_mlp_adds():
    """With down the identity and up twice the identity, the positive part of what the MLP adds is tripled."""
    model = compose(toy(), Adapter(width=24, form="sequential", bias=False))
    block, adapter = model.vit.blocks[0], model.stages[0].after_mlp[0].adapter
    with torch.no_grad():
        adapter.down.weight.copy_(torch.eye(24))
        adapter.up.weight.copy_(2 * torch.eye(24))
    update = block.mlp(torch.randn(2, 5, 24, dtype=torch.float64))
    assert_close(model.stages[0].after_mlp[0](update), update + 2 * update.relu(), 1e-12)


def test_the_released_start_is_normal_and_a_quantised_start_is_quiet():
    released = compose(toy(), Adapter(width=16, follows="release")).stages[0].beside_mlp[0].adapter
    assert 0.015 < released.up.weight.std() < 0.025
    quantised = compose(toy(), Adapter(width=16, bits=2, bias=False)).stages[0].beside_mlp[0].adapter
    assert isinstance(quantised.up, QuantisedLinear)
    assert 0 < quantised.up.weight.abs().max() <= 2e-3


def test_the_text_shows_what_was_changed():
    assert repr(Adapter()) == "Adapter(width=8, scale=1.0)"
    houlsby = Adapter(form="sequential", beside=["attention", "mlp"])
    assert parse_method(repr(houlsby)) == houlsby
    assert Adapter(beside=("mlp",)) == Adapter()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beside": "head"}, "beside must be one of 'attention', 'mlp', got 'head'"),
        ({"beside": ("mlp", "mlp")}, "each once"),
        ({"beside": ()}, "each once"),
        ({"bits": 3}, "bits must be one of 1, 2, 4, 8"),
        ({"scale": "big"}, "scale must be a number"),
        ({"scale": float("nan")}, "scale must be a number"),
        ({"form": "serial"}, "form must be one of"),
        ({"activation": "tanh"}, "activation must be one of"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"learn_scale": True}, "learn_scale must be one of"),
    ],
)
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Adapter(**settings)
