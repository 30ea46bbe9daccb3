"""How many operators a forward pass of one image takes: these numbers may only fall."""

from collections import Counter
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from vitrim import compose

# Of ViT in twelve blocks, on the CPU: those of timm, and those that vitrim and each reduction add to them
OF_TIMM, OF_VITRIM = 335, 16
OF_ONE_STEP = {
    "EViT(keep=0.7, at=(6,))": 34,
    "EViT(keep=0.7, at=(6,), fuse='drop')": 22,
    "ToMe(r=13, at=(6,))": 59,
    "Bipartite(at=(6,))": 122,
    "Bipartite(at=(6,), learned=False)": 83,
    "DynamicViT(keep=0.7, at=(6,))": 44,
    "Pool(at=(6,))": 52,
}


class Operators(TorchDispatchMode):
    """Counts what reaches the kernels, views too."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def vit() -> VisionTransformer:
    return VisionTransformer(
        img_size=112, patch_size=8, embed_dim=24, depth=12, num_heads=2, num_classes=5
    ).eval()


def operators(model: nn.Module) -> int:
    with torch.no_grad(), Operators() as counter:
        model(torch.zeros(1, 3, 112, 112))
    return counter.counts.total()


def test_a_pass_without_methods_adds_the_choice_of_one_row() -> None:
    """The last block asks for queries and for keys and values apart; nothing else is timm's not."""
    plain = operators(vit())
    if plain == OF_TIMM:  # of the timm this was counted with
        assert operators(compose(vit())) <= OF_TIMM + OF_VITRIM


@pytest.mark.parametrize("method", OF_ONE_STEP)
def test_one_reduction(method: str) -> None:
    added = operators(compose(vit(), method)) - operators(compose(vit()))
    assert added <= OF_ONE_STEP[method]


def test_what_nobody_reads_is_not_worked_out() -> None:
    """Of the next blocks and the head, none asks where a patch is or how many a token stands for."""
    several = compose(vit(), "EViT(keep=0.7, at=(3, 6, 9), fuse='drop')")
    one = compose(vit(), "EViT(keep=0.7, at=(6,), fuse='drop')")
    bare = operators(compose(vit()))
    assert operators(several) - bare == 3 * (operators(one) - bare)
    with torch.no_grad(), Operators() as counter:
        several(torch.zeros(1, 3, 112, 112))
    assert not [
        name for name in counter.counts if name.startswith(("aten.gather", "aten.where", "aten.ones"))
    ]
