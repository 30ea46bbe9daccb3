"""NOAH: a supernet of prompts, LoRA and adapters in every block, whose best part is found by search."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.backbones.sites import Site
from vitrim.backbones.tuned_linear import SummedLinear, Term, own_linear
from vitrim.checks import check_one_of, check_positive, check_probability
from vitrim.methods.tuners.adapter import quick_gelu
from vitrim.methods.tuners.lora import ATTENTION_INPUTS
from vitrim.methods.tuners.subnet import TUNERS, Space, Subnet
from vitrim.methods.tuners.vpt import put_prompts
from vitrim.network.method import Method, option, store_setting
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

NORMAL = 0.02  # deviation of the release's start


@dataclass(frozen=True, repr=False)
class NOAH(Method):
    """Neural prompt search (arXiv 2206.04673): prompts, LoRA and adapters in every block, as one supernet.

    The narrower forms of each tuner are leading slices of its widest, w of 10 rows or columns:

        prompts   the first w of a block's prompts, in place of those before; a block without any lets them
                  run on
        LoRA      W x + B[:, :w] A[:w] x for query, key and value together
        adapter   x'' = x' + h + Up[:, :w] q(Down[:w] h + b[:w]) + c,   h = FFN(LN2 x'),  q(z) = z
                  sigmoid(1.702 z)

    Every training step runs a subnet drawn at random: for each tuner a depth, how many of the first blocks
    have it, and a width for each of these. Measured and saved is the widest, unless `choose_subnet` says
    another. `vitrim search --method NOAH` trains the supernet, finds the subnet that is best on val by
    evolution and says it as a composition of `VPT`, `LoRA` and `Adapter`, which is trained anew. The supernet
    of the widths 1, 5 and 10 has 654,456 parameters on ViT-B/16; the 19 subnets the paper found for VTAB-1K
    have 360,134 on average (`vitrim.settings.recipes.noah`).

    Up maps and B start at zero and prompts normal with deviation 0.02; the released code starts everything
    at the latter (`follows="release"`). Its dropout acts on the inputs of LoRA, here between A and B. Its
    input prompts, replaced in the first block before anything reads them, are left out.

    Attributes:
        widths: the widths to choose among.
        depths: the numbers of blocks to choose among; None for each quarter of the backbone's.
        dropout: within LoRA and adapters, while training (the release: 0.1).
        sample: whether training draws subnets; False trains the whole.
        follows: "paper" or "release", see above.
        low_rank: whether LoRA is part of it; `merge` folds LoRA in and leaves a supernet of the others.
    """

    starts_unchanged: ClassVar[bool] = False  # prompts are read from the first step on
    proposed: ClassVar[bool] = False  # it is searched, not chosen

    widths: tuple[int, ...] = (1, 5, 10)
    depths: tuple[int, ...] | None = option(None)
    dropout: float = option(0.0)
    sample: bool = option(True)
    follows: str = option("paper")
    low_rank: bool = option(True)

    def __post_init__(self) -> None:
        for name in ("widths", "depths"):
            given = getattr(self, name)
            if given is None and name == "depths":
                continue
            values = (given,) if isinstance(given, int) else tuple(given)
            for value in values:
                check_positive("NOAH", name, value)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"NOAH: {name} must hold each of at least one number once, got {given!r}")
            store_setting(self, name, tuple(sorted(values)))
        check_probability("NOAH", "dropout", self.dropout)
        check_one_of("NOAH", "sample", self.sample, (True, False))
        check_one_of("NOAH", "low_rank", self.low_rank, (True, False))
        check_one_of("NOAH", "follows", self.follows, ("paper", "release"))

    def after_folding(self) -> Self | None:
        return replace(self, low_rank=False)

    @classmethod
    def example(cls, model: "StagedViT") -> Self:
        """The whole supernet in every step."""
        return replace(cls(), sample=False)

    def space(self, blocks: int) -> Space:
        """The subnets on a backbone of so many blocks."""
        depths = self.depths or tuple(sorted({max(1, blocks * part // 4) for part in range(1, 5)}))
        if depths[-1] > blocks:
            raise ValueError(f"{self}: there are {blocks} blocks, fewer than the depth {depths[-1]}")
        return Space(self.widths, depths, blocks)

    def attach(self, model: "StagedViT") -> None:
        choice = Choice(self.space(model.depth), self.sample)
        like = next(model.vit.blocks[0].parameters())
        for index, stage in enumerate(model.stages):
            if stage.prompts is not None:
                raise ValueError(f"{self}: block {index} already has prompts; leave one of the two out")
            stage.prompts = SlicedPrompts(model, self, Part(choice, "prompts", index), like)
            stage.after_mlp.append(SlicedAdapter(model.width, self, Part(choice, "widths", index), like))
        layers: dict[int, list[Site]] = {}
        for site in model.sites():
            if self.low_rank and site.role in ATTENTION_INPUTS and site.block is not None:
                layers.setdefault(site.block, []).append(site)
        for index, sites in layers.items():
            if len({site.name for site in sites}) > 1:
                raise ValueError(f"{self}: query, key and value are separate layers here and share no A")
            base = own_linear(sites[0], self)
            term = SlicedLowRank(base, self, Part(choice, "ranks", index))
            sites[0].put(SummedLinear(base, {"shared": term}, self))
        model.share(choice, self)


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

    def __init__(self, model: "StagedViT", settings: NOAH, part: Part, like: Tensor) -> None:
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
        return replace(state, tokens=with_gradient(state.tokens, self.prompts))


class SlicedLowRank(Term):
    """B[:, :w] A[:w] x for all rows of a fused query, key and value."""

    def __init__(self, base: nn.Linear, settings: NOAH, part: Part) -> None:
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

    def __init__(self, width: int, settings: NOAH, part: Part, like: Tensor) -> None:
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


def start(down: nn.Linear, up: nn.Linear, settings: NOAH) -> None:
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


def choice_of(model: "StagedViT") -> Choice:
    """The choice of a model's supernet; refused where it has none."""
    found = [part for part in model.shared.values() if isinstance(part, Choice)]
    if not found:
        methods = ", ".join(map(repr, model.methods)) or "no methods"
        raise ValueError(f"the model has {methods}, not NOAH, so there are no subnets to choose")
    return found[0]


def choose_subnet(model: "StagedViT", subnet: Subnet) -> None:
    """Let a supernet compute what one of its subnets does, until another is chosen."""
    choice = choice_of(model)
    most = max(choice.space.widths)
    for tuner in TUNERS:
        sizes = subnet[tuner]
        if len(sizes) != choice.space.blocks or not all(0 <= size <= most for size in sizes):
            raise ValueError(
                f"{tuner} must hold a width from 0 to {most} for each of {choice.space.blocks} blocks, "
                f"got {sizes!r}"
            )
    choice.fixed = subnet
