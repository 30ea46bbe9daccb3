"""What NOAH's supernet is made of: which subnet runs now, and prompts, LoRA and adapters of its widths."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.backbones.tuned_linear import Term
from vitrim.methods.tuners.adapter import quick_gelu
from vitrim.methods.tuners.subnet import Space, Subnet
from vitrim.methods.tuners.vpt import put_prompts
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.methods.tuners.noah import NOAH
    from vitrim.network.model import StagedViT

NORMAL = 0.02  # deviation of the release's start


class Choice(nn.Module):
    """Which subnet runs: a fixed one, or in training one drawn for each forward pass."""

    def __init__(self, space: Space, sample: bool) -> None:
        super().__init__()
        self.space, self.sample = space, sample
        self.fixed = self.drawn = space.largest()

    @property
    def draws(self) -> bool:
        """Whether each forward pass runs another subnet."""
        return self.training and self.sample and torch.is_grad_enabled()

    @property
    def subnet(self) -> Subnet:
        """The one that runs."""
        return self.drawn if self.draws else self.fixed

    def draw(self) -> None:
        """Another one for this step, from torch's generator: recomputed activations draw the same again."""
        self.drawn = self.space.draw(lambda options: options[int(torch.randint(len(options), ()))])


class Part:
    """How wide one tuner is in one block now."""

    def __init__(self, choice: Choice, tuner: str, block: int) -> None:
        self.choice, self.tuner, self.block = choice, tuner, block

    @property
    def size(self) -> int:
        return self.choice.subnet[self.tuner][self.block]

    @property
    def largest(self) -> int:
        return max(self.choice.space.widths)


class SlicedPrompts(nn.Module):
    """The first so many of a block's prompts, in place of those before; with none, those run on."""

    def __init__(self, model: "StagedViT", part: Part, like: Tensor) -> None:
        super().__init__()
        self.part, self.own = part, model.vit.num_prefix_tokens
        self.prompts = nn.Parameter(like.new_empty(part.largest, model.width))  # [p, D]
        nn.init.trunc_normal_(self.prompts, std=NORMAL)

    def forward(self, state: TokenState) -> TokenState:
        """[B, P+N, D] -> [B, P'+N, D]"""
        if self.part.block == 0 and self.part.choice.draws:
            self.part.choice.draw()
        size = self.part.size
        if size:
            return put_prompts(state, self.prompts[:size], self.own)
        return state.replaced(tokens=with_gradient(state.tokens, self.prompts))


class SlicedLowRank(Term):
    """B[:, :w] A[:w] x for all rows of a fused query, key and value."""

    def __init__(self, base: nn.Linear, settings: "NOAH", part: Part) -> None:
        super().__init__(slice(0, base.out_features))
        where: dict[str, Any] = {"bias": False, "device": base.weight.device, "dtype": base.weight.dtype}
        self.part = part
        self.down = nn.Linear(base.in_features, part.largest, **where)
        self.up = nn.Linear(part.largest, base.out_features, **where)
        self.dropout = nn.Dropout(settings.dropout)
        start(self.down, self.up, settings)

    def forward(self, inputs: Tensor) -> Tensor:
        size = self.part.size
        hidden = self.dropout(F.linear(inputs, self.down.weight[:size]))  # [..., w]
        return F.linear(hidden, self.up.weight[:, :size])

    def delta(self) -> Tensor:
        size = self.part.size
        return self.up.weight[:, :size] @ self.down.weight[:size]


class SlicedAdapter(nn.Module):
    """h + Up[:, :w] q(Down[:w] h + b[:w]) + c; nothing is added with w = 0. [B, T, D] -> [B, T, D]"""

    def __init__(self, width: int, settings: "NOAH", part: Part, like: Tensor) -> None:
        super().__init__()
        where: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.part = part
        self.down, self.up = nn.Linear(width, part.largest, **where), nn.Linear(part.largest, width, **where)
        self.dropout = nn.Dropout(settings.dropout)
        start(self.down, self.up, settings)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.bias)

    def forward(self, update: Tensor) -> Tensor:
        size = self.part.size
        if size == 0:
            return with_gradient(update, *self.parameters())
        hidden = quick_gelu(F.linear(update, self.down.weight[:size], self.down.bias[:size]))
        return update + F.linear(self.dropout(hidden), self.up.weight[:, :size], self.up.bias)


def start(down: nn.Linear, up: nn.Linear, settings: "NOAH") -> None:
    """Silent, or as the release."""
    nn.init.zeros_(up.weight)
    if settings.follows == "release":
        nn.init.trunc_normal_(down.weight, std=NORMAL)
        nn.init.trunc_normal_(up.weight, std=NORMAL)


def with_gradient(values: Tensor, *unused: Tensor) -> Tensor:
    """The same values; in training, parameters that do not act get gradients of zero, as the release's do
    and as several processes need that wait for each other's."""
    if not torch.is_grad_enabled():
        return values
    return values + sum(parameter.sum() for parameter in unused).to(values.dtype) * 0  # type: ignore[union-attr]
