"""Adapters: small bottleneck networks beside a block's attention or MLP."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vitrim.checks import check_one_of, check_positive, check_probability, is_number
from vitrim.method import Method, option
from vitrim.stage import Branch
from vitrim.state import TokenState

if TYPE_CHECKING:
    from vitrim.stage import StagedViT


@dataclass(frozen=True, repr=False)
class Adapter(Method):
    """AdaptFormer's parallel adapter by default (arXiv 2205.13535; FPET eq. 2, Sparse-Tuning eq. 2).

        x'' = x' + FFN(LN2 x') + scale * (W_up dropout(ReLU(W_down x' + b_down)) + b_up)

    The input is the stream after attention, not normalised; the branch is outside drop path. W_down starts Kaiming uniform
    (a = sqrt 5), W_up and the biases at zero, so the model starts unchanged. L (2 D width + width + D) parameters (ViT-B/16,
    width 8: 156,768; without biases 147,456). With a reducer in the same block, the adapter reads the reduced tokens.

    Attributes:
        width: of the bottleneck.
        scale: factor of the branch.
        beside: "mlp" or "attention", what it runs in parallel to.
        dropout: on the hidden activations, while training.
        bias: whether both linear layers have biases (FPET's and the 1-bit adapters have none).
        bits: stored precision of the weights; None keeps floats.
    """

    width: int = 8
    scale: float = 1.0
    beside: str = option("mlp")
    dropout: float = option(0.0)
    bias: bool = option(True)
    bits: int | None = option(None)

    def __post_init__(self) -> None:
        check_positive("Adapter", "width", self.width)
        if not is_number(self.scale):
            raise ValueError(f"Adapter: scale must be a number, got {self.scale!r}")
        check_one_of("Adapter", "beside", self.beside, ("mlp", "attention"))
        check_probability("Adapter", "dropout", self.dropout)

    def attach(self, model: "StagedViT") -> None:
        for stage, block in zip(model.stages, model.vit.blocks, strict=True):
            slot = stage.beside_mlp if self.beside == "mlp" else stage.beside_attention
            slot.append(Bottleneck(model.width, self, like=block.norm1.weight))


class Bottleneck(Branch):
    """scale * up(dropout(ReLU(down(x))))."""

    def __init__(self, width: int, settings: Adapter, like: Tensor) -> None:
        super().__init__()
        where = {"device": like.device, "dtype": like.dtype}
        self.down = nn.Linear(width, settings.width, bias=settings.bias, **where)
        self.up = nn.Linear(settings.width, width, bias=settings.bias, **where)
        self.dropout = nn.Dropout(settings.dropout)
        self.scale = settings.scale
        start_silent(self.down, self.up)

    def forward(self, state: TokenState, normed: Tensor) -> tuple[Tensor, TokenState]:
        added = self.up(self.dropout(torch.relu(self.down(state.tokens))))
        return (added if self.scale == 1 else added * self.scale), state


def start_silent(down: nn.Linear, up: nn.Linear) -> None:
    """Kaiming-uniform down (a linear layer's own start), zero up and zero biases: the branch adds nothing at first."""
    nn.init.zeros_(up.weight)
    for layer in (down, up):
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
