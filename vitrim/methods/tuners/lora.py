"""LoRA: a trainable low-rank term beside chosen linear layers, folded into them for inference."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from vitrim.backbones.sites import LINEAR_ROLES, Site
from vitrim.backbones.summed_products import Product
from vitrim.backbones.tuned_linear import SummedLinear, Term, hooked, own_linear
from vitrim.checks import check_one_of, check_positive, check_probability, is_number, several
from vitrim.methods.quantising.linear import BITS, QuantisedLinear, start_quiet
from vitrim.network.method import Method, option, store_blocks, store_setting

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

ATTENTION_INPUTS = ("query", "key", "value")


@dataclass(frozen=True, repr=False)
class LoRA(Method):
    """Low-rank adaptation (arXiv 2106.09685; FPET eq. 1): W x -> W x + scale * B A x.

    A is [rank, in] and B [out, rank].

    One A and one B for each role of each block, without biases; A starts like a linear layer (Kaiming
    uniform), B at zero, so the model starts unchanged. 4 L D rank parameters with the default roles
    (ViT-B/16, rank 8: 294,912). Folds exactly: W + scale * B A.

    The released FPET and PETL-ViT code puts dropout between A and B, as here; loralib and PEFT drop
    inputs instead. NOAH's code has one A for query, key and value (`shared=True` with those roles: the
    same count) and starts both A and B at random, which this library does not. With `bits` (Bi-LoRA,
    arXiv 2307.16867) A and B are rounded to that many bits at every step; B then starts normal with
    deviation 1e-3, so the start is nearly unchanged only.

    Attributes:
        rank: width of the bottleneck, or one for each block; 0 leaves a block out (then without `at`).
        scale: factor of the added term.
        roles: which layers, any of query, key, value, attention_out, mlp_in, mlp_out.
        dropout: between A and B, while training.
        alpha: gives the factor as alpha / rank instead, the way of the original code; leave `scale` at 1.
        shared: one A for query, key and value, on backbones that compute them in one layer.
        bits: stored precision of A and B, 1, 2, 4 or 8; None keeps floats.
        at: indices of the blocks that have it, counted from 0; None for all.
    """

    folds: ClassVar[bool] = True

    rank: int | tuple[int, ...] = 8
    scale: float = 1.0
    roles: tuple[str, ...] = ("query", "value")
    dropout: float = option(0.0)
    alpha: float | None = option(None)
    shared: bool = option(False)
    bits: int | None = option(None)
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        self._check_rank()
        if not is_number(self.scale) or not math.isfinite(self.scale):
            raise ValueError(f"LoRA: scale must be a number, got {self.scale!r}")
        if self.alpha is not None and (not is_number(self.alpha) or self.scale != 1):
            raise ValueError(f"LoRA: give scale or a number alpha, got {self.scale!r} and {self.alpha!r}")
        store_setting(self, "roles", several("LoRA", "roles", self.roles, str))
        if not self.roles:
            raise ValueError(f"LoRA: roles is empty; name at least one of {', '.join(LINEAR_ROLES)}")
        for role in self.roles:
            check_one_of("LoRA", "roles", role, LINEAR_ROLES)
        check_probability("LoRA", "dropout", self.dropout)
        if self.shared and not set(ATTENTION_INPUTS) <= set(self.roles):
            raise ValueError(f"LoRA: shared=True needs the roles query, key and value, got {self.roles!r}")
        if self.bits is not None:
            check_one_of("LoRA", "bits", self.bits, BITS)

    def _check_rank(self) -> None:
        if isinstance(self.rank, int):
            check_positive("LoRA", "rank", self.rank)
            return
        store_setting(self, "rank", several("LoRA", "rank", self.rank, int))
        if not any(self.rank):
            raise ValueError(f"LoRA: rank must be above 0 in at least one block, got {self.rank!r}")
        if self.at is not None:
            raise ValueError(
                f"LoRA: give at with one rank, or one rank for each block (0 leaves it out), got {self.at!r} "
                f"and {self.rank!r}"
            )
        for rank in self.rank:
            if rank != 0:
                check_positive("LoRA", "rank", rank)

    def attach(self, model: "StagedViT") -> None:
        ranks = (self.rank,) * model.depth if isinstance(self.rank, int) else self.rank
        if len(ranks) != model.depth:
            raise ValueError(f"{self}: {len(ranks)} ranks for {model.depth} blocks; give one each")
        layers: dict[tuple[nn.Module, str], list[Site]] = {}  # a fused qkv is one layer and up to three sites
        for site in model.sites_in(self.at, self):
            if site.block is not None and site.role in self.roles and ranks[site.block]:
                layers.setdefault((site.owner, site.name), []).append(site)
        for found in layers.values():
            first = found[0]
            base = own_linear(first, self)
            first.put(SummedLinear(base, self._terms(base, found, ranks[first.block or 0]), self))

    def first_blocks(self, count: int, depth: int) -> "Method | None":
        if isinstance(self.rank, int):
            return super().first_blocks(count, depth)
        left = self.rank[:count]
        return replace(self, rank=left) if any(left) else None

    def _terms(self, base: nn.Linear, sites: list[Site], rank: int) -> dict[str, Term]:
        if self.shared and sites[0].role in ATTENTION_INPUTS:
            if len(sites) != 3:
                raise ValueError(f"{self}: query, key and value are separate layers here and share no A")
            return {"shared": LowRank(base, slice(0, base.out_features), rank, self)}
        return {site.role: LowRank(base, site.rows, rank, self) for site in sites}


class LowRank(Term):
    """scale * B A x for some output rows of a layer."""

    def __init__(self, base: nn.Linear, rows: slice, rank: int, settings: LoRA) -> None:
        super().__init__(rows)
        self.down = _linear(base.in_features, rank, settings.bits, like=base.weight)
        self.up = _linear(rank, rows.stop - rows.start, settings.bits, like=base.weight)
        if settings.bits is None:
            nn.init.zeros_(self.up.weight)
        else:
            start_quiet(self.up)
        self.dropout = nn.Dropout(settings.dropout)
        self.scale = settings.scale if settings.alpha is None else settings.alpha / rank

    def forward(self, inputs: Tensor) -> Tensor:
        added = self.up(self.dropout(self.down(inputs)))
        return added if self.scale == 1 else added * self.scale

    def product(self) -> Product | None:
        dropping = self.training and self.dropout.p > 0
        if dropping or any(map(hooked, (self, self.down, self.dropout, self.up))):
            return None
        return Product(weight_in_use(self.down), weight_in_use(self.up), self.scale, self.rows)

    def delta(self) -> Tensor:
        return self.scale * (weight_in_use(self.up) @ weight_in_use(self.down))


def weight_in_use(layer: nn.Linear) -> Tensor:
    """The weight a layer computes with, rounded where it is quantised."""
    return layer.rounded_weight() if isinstance(layer, QuantisedLinear) else layer.weight


def _linear(inputs: int, outputs: int, bits: int | None, like: Tensor) -> nn.Linear:
    if bits is None:
        return nn.Linear(inputs, outputs, bias=False, device=like.device, dtype=like.dtype)
    return QuantisedLinear(inputs, outputs, bits, device=like.device, dtype=like.dtype)
