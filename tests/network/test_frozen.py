"""What stands before anything that trains is no part of the backward pass, and can be cut off exactly."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from vitrim import compose
from vitrim.network.frozen import FrozenBlocks, first_changing, frozen_blocks, whole_batch
from vitrim.network.model import StagedViT
from vitrim.tokens.state import TokenState

FROZEN = {  # of four blocks
    (): 4,
    ("LoRA(rank=2, at=(2, 3))",): 2,
    ("LoRA(rank=2)",): 0,
    ("LoRA(rank=(0, 0, 0, 2))",): 3,
    ("Adapter(width=4, at=(3,))", "EViT(keep=0.7, at=(1,))"): 3,
    ("DenseAdapter(width=4, at=(1, 2, 3))", "ToMe(r=2, at=(0,))"): 1,
    ("BitFit(at=(3,))",): 3,
    ("LayerNormTuning(at=(2, 3))",): 2,
    ("FisherDelta(counts=(0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1, 0, 0))",): 2,
    ("VPT(prompts=2)",): 0,
    ("SynQT()",): 0,
    ("Full()",): 0,
}
CUT = [methods for methods, count in FROZEN.items() if count]


def vit(**settings: Any) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=2, num_classes=3, **settings
    )


def composed(methods: tuple[str, ...], **settings: Any) -> StagedViT:
    model = compose(vit(**settings), *methods).double().train()
    for part in model.modules():
        if hasattr(part, "chosen"):
            part.chosen = True  # the first columns
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradients(model: StagedViT, seen: Any, given: Any) -> tuple[list[Tensor], list[tuple[int, ...]]]:
    """Of all that trains, and the shapes of what autograd keeps for them."""
    kept: list[tuple[int, ...]] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        logits, _ = seen.forward_with_penalty(given)
        logits.square().sum().backward()
    found = [parameter.grad.clone() for parameter in model.trained().values() if parameter.grad is not None]
    model.zero_grad()
    return found, kept


@pytest.mark.parametrize(("methods", "count"), FROZEN.items(), ids=str)
def test_how_many_blocks_are_frozen(methods: tuple[str, ...], count: int) -> None:
    model = composed(methods)
    assert frozen_blocks(model) == count
    assert model.training


@pytest.mark.parametrize("methods", CUT, ids=str)
def test_the_backward_pass_begins_behind_them(methods: tuple[str, ...]) -> None:
    """Autograd keeps of a whole pass what it keeps of the blocks behind alone; the gradients are the same
    bits."""
    model = composed(methods)
    blocks = FrozenBlocks(model, frozen_blocks(model))
    whole, kept = gradients(model, model, images())
    rest, kept_behind = gradients(model, blocks.rest(), blocks(images()))
    assert kept == kept_behind
    assert len(whole) == len(rest) > 0
    assert all(torch.equal(one, other) for one, other in zip(whole, rest, strict=True))
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(images()), blocks.rest().eval()(blocks(images())))


def test_checkpointing_computes_frozen_blocks_once() -> None:
    model = composed(("LoRA(rank=2, at=(3,))",))
    model.set_gradient_checkpointing()
    ran: list[int] = []
    for index, stage in enumerate(model.stages):
        stage.register_forward_pre_hook(lambda *_, index=index: ran.append(index))
    gradients(model, model, images())
    assert sorted(ran) == [0, 1, 2, 3, 3]


def test_what_pools_reads_sizes_of_frozen_blocks() -> None:
    """Behind the last block too, where the head weighs tokens by how many patches they stand for."""
    model = composed(("ToMe(r=4, at=(1, 3))",), global_pool="avg")
    blocks = FrozenBlocks(model, frozen_blocks(model))
    assert blocks.count == 4
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(images()), blocks.rest().eval()(blocks(images())))


@pytest.mark.parametrize(
    ("method", "block"),
    [
        ("EViT(keep=0.7, at=(1,))", None),
        ("EViT(keep=0.7, at=(1,), train_keep=(0.4, 0.9))", 1),
        ("EViT(keep=0.7, at=(2,), warmup=(1, 3))", 2),
    ],
)
def test_what_draws_or_follows_the_epochs_is_met(method: str, block: int | None) -> None:
    model = composed((method, "LoRA(rank=2, at=(3,))"))
    assert first_changing(model, 3) == block


def test_every_field_of_a_state_is_kept_or_refused() -> None:
    """A new one has to be put into `frozen.py` too: to what is kept, what all images share, or what belongs
    to a batch as a whole."""
    kept = {"tokens", "sizes", "position", "source", "keep", "trail"}
    alike = {"prefix", "grid", "complete", "by_products", "moved"}
    state = TokenState.start(torch.zeros(1, 5, 2), 1, (2, 2))
    assert whole_batch(state)
    for field in fields(TokenState):
        if field.name not in kept | alike:
            assert not whole_batch(state.replaced(**{field.name: (torch.zeros(()),)})), field.name


def test_what_drops_at_random_is_met() -> None:
    assert first_changing(composed((), drop_path_rate=0.5), 4) == 1
    assert first_changing(composed((), pos_drop_rate=0.2), 4) == 0
