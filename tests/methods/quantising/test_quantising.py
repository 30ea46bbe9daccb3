"""Quantised linear layers: levels, gradients and bit order as in the released code; packing loses nothing."""

import pytest
import torch
from golden import Golden, assert_close
from torch.nn import functional as F

from vitrim.methods.quantising.linear import (
    BITS,
    QuantisedLinear,
    dequantise,
    level_indices,
    level_values,
    pack_levels,
    standardise,
    unpack_levels,
)

CASES = ("qlinear_b1_32x64", "qlinear_b2_24x10_shift")


def layer_of(golden: Golden, dtype: torch.dtype = torch.float64) -> QuantisedLinear:
    about = golden.about
    about.setdefault("params", {})[about["param_name"]] = about["weight_shape"]
    rows, columns = about["weight_shape"]
    layer = QuantisedLinear(columns, rows, bits=about["bits"]).to(dtype)
    with torch.no_grad():
        weight = golden.weight(about["param_name"]) * about["weight_scale"] + about["weight_offset"]
        layer.weight.copy_(weight)
    return layer


@pytest.mark.parametrize("name", CASES)
def test_levels_outputs_and_gradients_are_those_of_the_released_code(name):
    golden = Golden(name)
    layer, inputs = layer_of(golden), golden.images().requires_grad_()
    assert_close(layer.levels.float(), golden["code"], 1e-7)
    assert_close(layer.rounded_weight(), golden["w_fake"])
    outputs = layer(inputs)
    loss = outputs.square().mean()
    loss.backward()
    assert_close(outputs, golden["y"])
    assert_close(loss, golden["loss"])
    assert_close(layer.weight.grad, golden["grad_weight"])
    assert_close(inputs.grad, golden["grad_x"])


@pytest.mark.parametrize("name", CASES)
def test_packed_bytes_are_those_of_the_released_code(name):
    golden = Golden(name)
    layer = layer_of(golden)
    indices = level_indices(standardise(layer.weight, layer.weight.mean(), layer.weight.std()), layer.levels)
    assert torch.equal(indices.flatten().byte(), golden["level_index"])
    packed = layer.packed()
    assert torch.equal(packed.levels, golden["packed"])
    assert_close(torch.stack(packed[1:]), golden["mean_std_f32"], 1e-6)
    single = layer_of(golden, torch.float32).packed()
    assert torch.equal(single.levels, golden["packed_f32"])
    weight = dequantise(single, layer.bits, tuple(layer.weight.shape))
    assert_close(weight, golden["w_loaded_f32"], 1e-5)
    assert_close(F.linear(golden.images().float(), weight), golden["y_loaded_f32"], 1e-5)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("count", [1, 7, 8, 13])
def test_packing_keeps_every_weight_and_fills_the_last_byte(bits, count):
    indices = torch.randint(2**bits, (count,), generator=torch.Generator().manual_seed(count))
    packed = pack_levels(indices, bits)
    assert packed.dtype == torch.uint8 and len(packed) == -(-count * bits // 8)
    assert torch.equal(unpack_levels(packed, bits, count), indices)


def test_a_refinement_of_fpet_packs_to_528_bytes():
    layers = QuantisedLinear(64, 32), QuantisedLinear(32, 64)
    assert sum(len(packed.levels) + 8 for packed in (layer.packed() for layer in layers)) == 528


@pytest.mark.parametrize("bits", BITS)
def test_every_level_is_the_median_of_its_cell(bits):
    levels = level_values(bits).double()
    assert torch.equal(levels, -levels.flip(0)) and bool((levels[1:] > levels[:-1]).all())
    middles = torch.special.ndtr((levels[1:] + levels[:-1]) / 2)
    edges = torch.cat([torch.zeros(1), middles, torch.ones(1)])
    medians = torch.special.ndtri((edges[1:] + edges[:-1]) / 2)
    assert (medians - levels).abs().max() < (1e-6 if bits < 8 else 2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_layer_of_any_precision_computes_trains_and_merges(dtype):
    layer = QuantisedLinear(16, 8, bits=2, bias=True).to(dtype)
    inputs = torch.randn(3, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    outputs = layer(inputs)
    assert outputs.dtype == dtype and layer.levels.dtype == dtype
    outputs.square().sum().backward()
    assert bool(layer.weight.grad.isfinite().all()) and bool((layer.weight.grad != 0).any())
    assert torch.equal(layer.merged()(inputs), outputs)
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_a_constant_weight_gives_no_nan():
    layer = QuantisedLinear(4, 4)
    torch.nn.init.zeros_(layer.weight)
    layer(torch.ones(1, 4)).sum().backward()
    assert bool(layer.weight.grad.isfinite().all()) and bool((layer(torch.ones(1, 4)) == 0).all())


def test_other_widths_are_refused():
    with pytest.raises(ValueError, match="bits must be one of 1, 2, 4, 8, got 3"):
        QuantisedLinear(4, 4, bits=3)
    with pytest.raises(ValueError, match="3 bytes cannot hold exactly 9 weights of 1 bits"):
        unpack_levels(torch.zeros(3, dtype=torch.uint8), 1, 9)
