"""A seventh reducer in one file: keep the patches whose tokens have the largest norm.

Run it with `python examples/own_reducer.py`, and plug it into the command line:

    vitrim train --plugin examples/own_reducer.py --method "KeepLargest(keep=0.5)" --out runs/own
    vitrim predict --plugin examples/own_reducer.py runs/own PICTURE.jpg
    vitrim plan --plugin examples/own_reducer.py --model vit_small_patch16_224 --budget 0.6

Inside vitrim it would be this file in `vitrim/methods/reducers/` and one row in the table there; outside, the
row is the decorator. Everything else then works with it: text notation, composition with any tuner, saving
and loading, costs, lists, the planner, pictures of what was kept.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

import vitrim
from vitrim.checks import block_indices, check_share
from vitrim.network.method import Method, store_setting
from vitrim.network.model import StagedViT
from vitrim.network.parts import Reducer
from vitrim.tokens.attended import Attended
from vitrim.tokens.state import Grouping, TokenState, regroup


@vitrim.register
@dataclass(frozen=True, repr=False)
class KeepLargest(Method):
    """Keep the share `keep` of the patch tokens with the largest L2 norm in the blocks `at`; drop the
    others.

    Attributes:
        keep: share of the patch tokens each of the blocks keeps, above 0 and at most 1.
        at: indices of the blocks that reduce, counted from 0.
    """

    reduces: ClassVar[bool] = True  # in lists and plans it stands among the reducers

    keep: float = 0.5
    at: tuple[int, ...] = (6,)

    def __post_init__(self) -> None:
        check_share("KeepLargest", "keep", self.keep)
        store_setting(self, "at", block_indices("KeepLargest", self.at))

    def attach(self, model: StagedViT) -> None:
        model.reduce_at(self.at, [LargestNorm(self.keep) for _ in self.at], by=self)


class LargestNorm(Reducer):
    """One block's step."""

    commutes = False  # it looks at the tokens after attention, so it cannot run before the output projection

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep

    def leaving(self, entering: int) -> int:
        return max(1, round(self.keep * entering))

    def forward(self, state: TokenState, attended: Attended) -> TokenState:
        norms = state.tokens[:, state.prefix :].norm(dim=-1)  # [B, N]
        lead = norms.topk(self.leaving(state.count), dim=1).indices  # [B, M]
        slots = torch.full_like(state.position, -1)  # [B, N], -1: dropped
        places = torch.arange(lead.shape[1], device=lead.device).expand_as(lead)
        return regroup(state, Grouping(slots.scatter(1, lead, places), lead))


def main() -> None:
    """Compose it with LoRA and dense adapters on the bundled backbone and say what that costs."""
    model = vitrim.compose(
        "vitrim_tiny_patch8_96", "KeepLargest(keep=0.5, at=(4, 8))", "LoRA(rank=4)", num_classes=10
    )
    plain = vitrim.compose("vitrim_tiny_patch8_96", num_classes=10)
    logits, state = model.run(torch.randn(2, 3, 96, 96))
    print(*model.methods, sep=", ")
    print(f"logits {tuple(logits.shape)}; tokens leaving each block: {vitrim.costs(model).tokens}")
    print(f"{vitrim.costs(model).gmacs:.3f} GMACs, plain {vitrim.costs(plain).gmacs:.3f}")
    print(
        f"patches kept of the first image: {(state.source[0] >= 0).sum().item()} of {state.source.shape[1]}"
    )


if __name__ == "__main__":
    main()
