"""FacT: all weight changes of a network as one tensor, factored into matrices that every layer shares."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.backbones.sites import LINEAR_ROLES, PAIRED_INPUTS, Site
from vitrim.backbones.tuned_linear import SummedLinear, Term, own_linear
from vitrim.checks import check_one_of, check_positive, check_probability, is_number
from vitrim.network.method import Method, option, store_blocks

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class FacT(Method):
    """Factor tuning (arXiv 2212.03145) of all six linear layers of a block: W x -> W x + scale * V S_i U x.

    U [rank, D] and V [D, rank] are shared by the whole network. The hidden layers of the MLP, m D wide,
    count as m slices of width D: fc1 sends each slice of S_i U x through V, fc2 each slice of its input
    through U.

        tt   S_i is free: rank x rank, for fc1 and fc2 m rank x rank
        tk   S_i = sum_j P[j, i] C[:, :, j], transposed; C [rank, rank, rank], P [rank, slices of all blocks]

    In the tk form the released code lays the m slices of fc1 and fc2 out with the slice index fastest but
    cuts them in contiguous parts, so each part mixes all m. Harmless in training; repeated here, because
    its checkpoints and numbers rest on it. U and S start like linear layers, C and P Xavier uniform, V at
    zero, so the model starts unchanged. tt has 2 D rank + 12 L rank^2 parameters, tk 2 D rank + 12 L rank
    + rank^3 (ViT-B/16, rank 16: 61,440 and 30,976). Folds exactly, slice by slice: W + scale * V S_i U.

    Attributes:
        rank: of the shared factors.
        form: "tt" (tensor train) or "tk" (Tucker).
        scale: factor of the added term, .01 to 100 per task in the paper.
        dropout: before V, while training (.1 in the released code).
        at: indices of the blocks that have it and share the factors, counted from 0; None for all.
    """

    folds: ClassVar[bool] = True

    rank: int = 16
    form: str = "tt"
    scale: float = option(1.0)
    dropout: float = option(0.0)
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        check_positive("FacT", "rank", self.rank)
        check_one_of("FacT", "form", self.form, ("tt", "tk"))
        if not is_number(self.scale) or not math.isfinite(self.scale):
            raise ValueError(f"FacT: scale must be a number, got {self.scale!r}")
        check_probability("FacT", "dropout", self.dropout)

    def attach(self, model: "StagedViT") -> None:
        layers: dict[tuple[nn.Module, str], list[Site]] = {}
        for site in model.sites_in(self.at, self):
            if site.role in LINEAR_ROLES:
                layers.setdefault((site.owner, site.name), []).append(site)
        found = [(sites, [self._slices(site, model.width) for site in sites]) for sites in layers.values()]
        count = sum(math.prod(each) for _, slices in found for each in slices)
        factors = Factors(model.width, count, self, like=own_linear(found[0][0][0], self).weight)
        model.share(factors, self)
        column = 0
        for sites, slices in found:
            terms: dict[str, Term] = {}
            for site, each in zip(sites, slices, strict=True):
                terms[site.role] = FactorTerm(site.rows, factors, each, column, self)
                column += math.prod(each)
            sites[0].put(SummedLinear(own_linear(sites[0], self), terms, self))

    def _slices(self, site: Site, width: int) -> tuple[int, int]:
        """How many slices of width D go in and out; one of the two is 1."""
        inputs, outputs = own_linear(site, self).in_features, site.rows.stop - site.rows.start
        if inputs % width or outputs % width or site.name in PAIRED_INPUTS:
            raise ValueError(
                f"{self}: {site} maps {inputs} to {outputs} channels, but FacT needs whole multiples of the "
                f"width {width} and one input layer of the MLP"
            )
        return inputs // width, outputs // width


class Factors(nn.Module):
    """What all layers share: U, V, and in the tk form C and P."""

    def __init__(self, width: int, slices: int, settings: FacT, like: Tensor) -> None:
        super().__init__()
        rank, device, dtype = settings.rank, like.device, like.dtype
        self.u = nn.Linear(width, rank, bias=False, device=device, dtype=dtype)
        self.v = nn.Linear(rank, width, bias=False, device=device, dtype=dtype)
        nn.init.zeros_(self.v.weight)
        if settings.form == "tk":
            self.c = nn.Parameter(like.new_empty(rank, rank, rank))
            self.p = nn.Parameter(like.new_empty(rank, slices))
            nn.init.xavier_uniform_(self.c)
            nn.init.xavier_uniform_(self.p)


class FactorTerm(Term):
    """scale * V S_i U x for one role of one layer."""

    def __init__(
        self, rows: slice, factors: Factors, slices: tuple[int, int], column: int, settings: FacT
    ) -> None:
        super().__init__(rows)
        self.reads = (factors,)  # a tuple, so that it is registered once, in `StagedViT.shared`
        self.ins, self.outs = slices
        self.column, self.rank, self.scale = column, settings.rank, settings.scale
        self.dropout = nn.Dropout(settings.dropout)
        if settings.form == "tt":
            like = factors.u.weight
            size = self.ins * self.rank, self.outs * self.rank
            self.s = nn.Linear(*size, bias=False, device=like.device, dtype=like.dtype)

    def middle(self) -> Tensor:
        """S_i as the weight of a linear layer: [outs * rank, ins * rank]."""
        if hasattr(self, "s"):
            return self.s.weight
        factors, count = self.reads[0], self.ins * self.outs
        slices = factors.c @ factors.p[:, self.column : self.column + count]  # [rank, rank, count]
        flat = slices.reshape(self.rank, self.rank * count)  # the slice index is fastest
        return flat if self.ins > 1 else flat.T

    def forward(self, inputs: Tensor) -> Tensor:
        u, v = self.reads[0].u, self.reads[0].v
        hidden = u(inputs) if self.ins == 1 else u(inputs.unflatten(-1, (self.ins, -1))).flatten(-2)
        hidden = self.dropout(F.linear(hidden, self.middle()))  # [..., outs * rank]
        added = v(hidden) if self.outs == 1 else v(hidden.unflatten(-1, (self.outs, -1))).flatten(-2)
        return added if self.scale == 1 else added * self.scale

    def delta(self) -> Tensor:
        u, v = self.reads[0].u.weight, self.reads[0].v.weight
        middle = self.middle().unflatten(1, (self.ins, -1)) @ u  # [outs * rank, ins, D]
        middle = middle.flatten(1).unflatten(0, (self.outs, -1))  # [outs, rank, ins * D]
        return self.scale * (v @ middle).flatten(0, 1)
