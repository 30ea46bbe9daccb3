"""A copy of a module shares nothing with it but what it was told to."""

import torch
from torch import nn
from toys import images, toy

from vitrim import compose
from vitrim.network.copying import copied


def tables(model: nn.Module) -> set[int]:
    """The hooks, weights and parts of every module, as identities."""
    return {id(value) for part in model.modules() for value in vars(part).values() if isinstance(value, dict)}


def test_a_copy_computes_the_same_and_is_its_own() -> None:
    model = compose(toy(depth=2), "LoRA(rank=2)", "EViT(keep=0.7, at=(1,))").eval()
    batch = images(model)
    before = model(batch)
    twin = copied(model)
    assert torch.equal(twin(batch), before)
    assert not tables(twin) & tables(model)
    called: list[object] = []
    twin.stages[0].register_forward_hook(lambda *_: called.append(1))
    with torch.no_grad():
        for weight in twin.parameters():
            weight.add_(1)
    assert torch.equal(model(batch), before) and not called
    twin(batch)
    assert called


def test_hooks_are_copied_and_what_stands_instead_is_taken() -> None:
    model, called = toy(depth=2), []
    model.blocks[1].register_forward_hook(lambda *_: called.append(1))
    twin = copied(model, {id(model.blocks[0]): model.blocks[0]})
    assert twin.blocks[0] is model.blocks[0] and twin.blocks[1] is not model.blocks[1]
    twin(images(model))
    assert called == [1]
