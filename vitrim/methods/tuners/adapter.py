"""Adapters: small bottleneck networks beside a block's attention or MLP, or behind them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.checks import check_number, check_one_of, check_positive, check_probability, several
from vitrim.methods.quantising.linear import BITS, QuantisedLinear, start_quiet
from vitrim.network.method import Method, option, store_blocks, store_setting
from vitrim.network.parts import Branch
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

PLACES = ("attention", "mlp")


@dataclass(frozen=True, repr=False)
class Adapter(Method):
    """AdaptFormer's parallel adapter by default (arXiv 2205.13535; FPET eq. 2, Sparse-Tuning eq. 2).

        parallel    x'' = x' + FFN(LN2 x') + s (W_up dropout(ReLU(W_down x' + b_down)) + b_up)
        sequential  x'' = x' + h + s (W_up dropout(ReLU(W_down h + b_down)) + b_up),   h = FFN(LN2 x')

    Parallel, the input is the stream after attention, not normalised; with a reducer in the same block it is
    the reduced stream. Both forms stand outside drop path. The classic adapters are sequential: Pfeiffer's,
    called AdapterP, is `Adapter(form="sequential", activation="quickgelu", dropout=0.1)`; Houlsby's (arXiv
    1902.00751) is the same with `beside=("attention", "mlp")`. W_down starts Kaiming uniform (a = sqrt 5),
    W_up and the biases at zero, so the model starts unchanged. L (2 D width + width + D) parameters for each
    place (ViT-B/16, width 8: 156,768; without biases 147,456).

    The releases differ: AdaptFormer scales before its "out" norm, which cancels the scale; AdapterP's release
    (NOAH) starts every weight at a normal of deviation 0.02, `follows="release"` here; the adapter of the VPT
    code starts both maps at zero behind a GELU and learns nothing but its last bias, which is not offered.

    Attributes:
        width: of the bottleneck.
        scale: factor of the branch; where it learns, its first value.
        beside: "mlp" or "attention", or both, what it stands beside or behind.
        form: "parallel" or "sequential".
        activation: "relu", "gelu" or "quickgelu" (z sigmoid(1.702 z)).
        dropout: on the hidden activations, while training.
        bias: whether both linear layers have biases (FPET's and the 1-bit adapters have none).
        bits: 1, 2, 4 or 8 bits for each weight of both maps (Bi-AdaptFormer, arXiv 2307.16867); None keeps
            floats. W_up then starts at a normal of deviation 1e-3, because zeros have no levels: the start
            is near identity.
        norm: "none", a LayerNorm before ("in") or after ("out") the two maps.
        learn_scale: "no", one factor for each adapter ("scalar"), or one for each channel ("channel").
        follows: "paper" or "release", see above.
        at: indices of the blocks that have it, counted from 0; None for all.
    """

    width: int = 8
    scale: float = 1.0
    beside: str | tuple[str, ...] = option("mlp")
    dropout: float = option(0.0)
    bias: bool = option(True)
    bits: int | None = option(None)
    form: str = option("parallel")
    activation: str = option("relu")
    norm: str = option("none")
    learn_scale: str = option("no")
    follows: str = option("paper")
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        check_positive("Adapter", "width", self.width)
        check_number("Adapter", "scale", self.scale)
        places = several("Adapter", "beside", self.beside, str)
        for place in places:
            check_one_of("Adapter", "beside", place, PLACES)
        if len(set(places)) != len(places) or not places:
            raise ValueError(
                f"Adapter: beside must name 'attention', 'mlp' or each once, got {self.beside!r}"
            )
        store_setting(self, "beside", places if len(places) != 1 else places[0])
        check_probability("Adapter", "dropout", self.dropout)
        if self.bits is not None:
            check_one_of("Adapter", "bits", self.bits, BITS)
        check_one_of("Adapter", "form", self.form, ("parallel", "sequential"))
        check_one_of("Adapter", "activation", self.activation, tuple(ACTIVATIONS))
        check_one_of("Adapter", "norm", self.norm, ("none", "in", "out"))
        check_one_of("Adapter", "learn_scale", self.learn_scale, ("no", "scalar", "channel"))
        check_one_of("Adapter", "follows", self.follows, ("paper", "release"))

    @property
    def places(self) -> tuple[str, ...]:
        """`beside` as a tuple."""
        return (self.beside,) if isinstance(self.beside, str) else self.beside

    def attach(self, model: "StagedViT") -> None:
        for index in model.check_blocks(self.at, self):
            stage, like = model.stages[index], next(model.vit.blocks[index].parameters())
            for place in self.places:
                bottleneck = Bottleneck(model.width, self, like)
                if self.form == "sequential":
                    after = stage.after_mlp if place == "mlp" else stage.after_attention
                    after.append(Behind(bottleneck))
                else:
                    beside = stage.beside_mlp if place == "mlp" else stage.beside_attention
                    beside.append(Beside(bottleneck))


def quick_gelu(inputs: Tensor) -> Tensor:
    """z sigmoid(1.702 z), the approximation CLIP trains with."""
    return inputs * torch.sigmoid(1.702 * inputs)


ACTIVATIONS = {"relu": torch.relu, "gelu": F.gelu, "quickgelu": quick_gelu}


class Bottleneck(nn.Module):
    """s * norm(up(dropout(activation(down(norm(z)))))): what an adapter adds. [B, T, D] -> [B, T, D]"""

    def __init__(self, width: int, settings: Adapter, like: Tensor) -> None:
        super().__init__()
        where: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.down = _linear(width, settings.width, settings, where)
        self.up = _linear(settings.width, width, settings, where)
        self.dropout = nn.Dropout(settings.dropout)
        self.norm_in = nn.LayerNorm(width, **where) if settings.norm == "in" else None
        self.norm_out = nn.LayerNorm(width, **where) if settings.norm == "out" else None
        self.activate = ACTIVATIONS[settings.activation]
        self.scale: float | Tensor = settings.scale
        if settings.learn_scale != "no":
            shape = () if settings.learn_scale == "scalar" else (width,)
            self.scale = nn.Parameter(torch.full(shape, float(settings.scale), **where))
        start_silent(self.down, self.up)
        if settings.follows == "release":
            nn.init.trunc_normal_(self.down.weight, std=0.02)
            nn.init.trunc_normal_(self.up.weight, std=0.02)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.norm_in is not None:
            inputs = self.norm_in(inputs)
        added = self.up(self.dropout(self.activate(self.down(inputs))))
        if self.norm_out is not None:
            added = self.norm_out(added)
        return added if isinstance(self.scale, float | int) and self.scale == 1 else added * self.scale


class Beside(Branch):
    """An adapter in parallel: it reads the stream, not normalised."""

    def __init__(self, adapter: nn.Module) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, state: TokenState, normed: Tensor) -> tuple[Tensor, TokenState]:
        return self.adapter(state.tokens), state


class Behind(nn.Module):
    """An adapter in sequence: it reads what attention or MLP adds to the stream. [B, T, D] -> [B, T, D]"""

    def __init__(self, adapter: nn.Module) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, update: Tensor) -> Tensor:
        return update + self.adapter(update)


def start_silent(down: nn.Linear, up: nn.Linear) -> None:
    """Kaiming-uniform down (a linear layer's own start), zero up and zero biases: nothing is added at first.

    A quantised up map starts small instead, because zeros have no levels.
    """
    if isinstance(up, QuantisedLinear):
        start_quiet(up)
    else:
        nn.init.zeros_(up.weight)
    for layer in (down, up):
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _linear(inputs: int, outputs: int, settings: Adapter, where: dict[str, Any]) -> nn.Linear:
    if settings.bits is None:
        return nn.Linear(inputs, outputs, bias=settings.bias, **where)
    return QuantisedLinear(inputs, outputs, bits=settings.bits, bias=settings.bias, **where)
