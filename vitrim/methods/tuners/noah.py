"""NOAH: a supernet of prompts, LoRA and adapters in every block, whose best part is found by search."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from vitrim.backbones.sites import Site
from vitrim.backbones.tuned_linear import SummedLinear, own_linear
from vitrim.checks import check_one_of, check_positive, check_probability, several
from vitrim.methods.tuners.lora import ATTENTION_INPUTS
from vitrim.methods.tuners.noah_parts import Choice, Part, SlicedAdapter, SlicedLowRank, SlicedPrompts
from vitrim.methods.tuners.subnet import TUNERS, Space, Subnet
from vitrim.network.method import Method, option, store_setting

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


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
        store_setting(self, "widths", _numbers("widths", self.widths))
        if self.depths is not None:
            store_setting(self, "depths", _numbers("depths", self.depths))
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
            stage.prompts = SlicedPrompts(model, Part(choice, "prompts", index), like)
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


def _numbers(name: str, given: object) -> tuple[int, ...]:
    """One whole number or several, each once, in ascending order."""
    numbers = several("NOAH", name, given, int)
    for number in numbers:
        check_positive("NOAH", name, number)
    if not numbers or len(set(numbers)) != len(numbers):
        raise ValueError(f"NOAH: {name} must hold each of at least one number once, got {given!r}")
    return tuple(sorted(numbers))


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
