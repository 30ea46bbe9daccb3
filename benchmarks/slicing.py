"""The limit reducers are measured against: the same network, cut short without choosing anything."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitrim import compose, costs
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.network.stage import Reducer
from vitrim.tokens.attended import Attended
from vitrim.tokens.state import TokenState


@dataclass(frozen=True, repr=False)
class Slicing(Method):
    """Keep the first tokens: `leaving` says how many, prefix included, after each block."""

    leaving: tuple[int, ...]

    def attach(self, model: StagedViT) -> None:
        prefix = model.vit.num_prefix_tokens
        entering = (prefix + model.patch_count, *self.leaving[:-1])
        blocks = [block for block in range(model.depth) if self.leaving[block] < entering[block]]
        model.reduce_at(blocks, [KeepFirst(self.leaving[block] - prefix) for block in blocks], by=self)


class KeepFirst(Reducer):
    """The first `kept` patch tokens. `source` is not followed: nothing but time is asked of this model."""

    def __init__(self, kept: int) -> None:
        super().__init__()
        self.kept = kept

    def leaving(self, entering: int) -> int:
        return self.kept

    def forward(self, state: TokenState, attended: Attended) -> TokenState:
        def cut(tokens: Tensor) -> Tensor:
            return tokens[:, : state.prefix + self.kept]

        return replace(
            state,
            tokens=cut(state.tokens),
            trail=tuple(cut(earlier) for earlier in state.trail),
            sizes=state.sizes[:, : self.kept],
            position=state.position[:, : self.kept],
        )


def sliced(backbone: str, methods: Sequence[Method | str], image_size: int | None = None) -> StagedViT:
    """The backbone with as many tokens leaving each block as `methods` would leave."""
    with torch.device("meta"):
        tokens = costs(compose(backbone, *methods, image_size=image_size)).tokens
    return compose(backbone, Slicing(tokens), image_size=image_size).eval()
