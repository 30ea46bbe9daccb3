"""Whatever stands in place of a linear layer is run by its own call, or refused by its type."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from toys import images, toy, wake

from vitrim import compose, merge


class Doubled(nn.Linear):
    """Computes something else than its weight and bias say."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) * 2


class Wrapped(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) * 1.5


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


def doubled(layer: nn.Linear) -> nn.Module:
    other = Doubled(layer.in_features, layer.out_features, dtype=layer.weight.dtype)
    other.load_state_dict(layer.state_dict())
    return other


def hooked(layer: nn.Linear) -> nn.Module:
    layer.register_forward_hook(lambda module, inputs, outputs: outputs * 2)
    return layer


def parametrised(layer: nn.Linear) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Halved())


CHANGES: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "subclass": doubled,
    "hook": hooked,
    "parametrised": parametrised,
}
TUNERS = ("LoRA(rank=2)", "SSF()", "RepAdapter(width=2)", "FacT(rank=2)", "FisherDelta()")
LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def changed(layer: str, change: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    vit = toy("vit", depth=3)
    for block in vit.blocks:
        owner, _, name = layer.rpartition(".")
        owner = block.get_submodule(owner)
        setattr(owner, name, change(getattr(owner, name)))
    return vit


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("layer", LAYERS)
def test_its_own_call_is_used(layer: str, change: str) -> None:
    vit = changed(layer, CHANGES[change])
    batch = images(vit)
    with torch.no_grad():
        plain, expected = toy("vit", depth=3)(batch), vit(batch)
        model = compose(vit).eval()
        torch.testing.assert_close(model(batch), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(model.run(batch)[0], expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(plain, expected)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("tuner", TUNERS)
def test_tuners_do_not_swallow_it(change: str, tuner: str) -> None:
    with pytest.raises(ValueError, match=r"whose own computation would be lost"):
        compose(changed("attn.qkv", CHANGES[change]), tuner)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_wrapper_is_refused_by_its_type(layer: str) -> None:
    with pytest.raises(ValueError, match=r"of block 0 is a \S*Wrapped, not torch's linear layer"):
        compose(changed(layer, Wrapped))


@pytest.mark.parametrize("methods", [(), ("ToMe(r=1)",), ("LoRA(rank=2)",)], ids=str)
def test_a_composed_model_can_be_quantised(methods: tuple[str, ...]) -> None:
    model = merge(wake(compose(toy("vit", torch.float32, depth=3), *methods))).eval()
    small = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, torch.qint8)
    batch = images(model)
    with torch.no_grad():
        whole = model(batch)
        for rounded in (small(batch), small.run(batch)[0]):
            assert 0 < (whole - rounded).abs().max() < 0.2 * whole.abs().max()
