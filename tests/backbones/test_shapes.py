"""Models without weights are the models that `torch.device("meta")` makes."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from toys import FAMILIES, MORE_FAMILIES

from vitrim.backbones.shapes import FILLING, shapes_only


def parts(model: nn.Module) -> list[tuple[object, ...]]:
    weights = [*model.named_parameters(), *model.named_buffers()]
    return [
        (name, type(each), each.shape, each.dtype, each.requires_grad, each.device) for name, each in weights
    ]


@pytest.mark.parametrize(
    "family", ["vit", "dinov3", "eva02", "beit", "cait", "relpos", "hybrid", "naflex-map"]
)
def test_parts_and_shapes_are_those_of_the_meta_device(family: str) -> None:
    build = (FAMILIES | MORE_FAMILIES)[family]
    with torch.device("meta"):
        expected = build()
    with shapes_only():
        found = build()
    assert parts(found) == parts(expected)
    assert [(name, str(part)) for name, part in found.named_modules()] == [
        (name, str(part)) for name, part in expected.named_modules()
    ]


def test_real_tensors_are_written_to_as_ever() -> None:
    with shapes_only():
        real = torch.ones(3, device="cpu")
        nn.init.zeros_(real)
    assert real.tolist() == [0, 0, 0]
    values = torch.ones(2)
    nn.init.constant_(values, 5)
    assert values.tolist() == [5, 5]


def test_initialisers_do_nothing_to_tensors_without_values() -> None:
    """What makes it fast: values would be worked out nowhere, in Python."""
    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Watch(), shapes_only():
        FAMILIES["vit"]()
    assert not [name for name in seen if name.split(".")[1] in FILLING]
