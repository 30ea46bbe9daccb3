"""LoRA: a trainable low-rank term beside chosen linear layers, folded into them for inference."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.checks import check_one_of, check_positive, check_probability, is_number
from vitrim.method import Method, option, settle
from vitrim.sites import LINEAR_ROLES
from vitrim.tuned_linear import TunedLinear, plain_linear

if TYPE_CHECKING:
    from vitrim.stage import StagedViT


@dataclass(frozen=True, repr=False)
class LoRA(Method):
    """Low-rank adaptation (arXiv 2106.09685; FPET eq. 1): W x -> W x + scale * B A x, with A [rank, D] and B [D, rank].

    One A and one B for each role of each block, without biases; A starts like a linear layer (Kaiming uniform), B at zero, so the
    model starts unchanged. Dropout stands between A and B, as in the released FPET and PETL-ViT code. 4 L D rank parameters with
    the default roles (ViT-B/16, rank 8: 294,912). Folds exactly: W + scale * B A.

    Attributes:
        rank: width of the bottleneck.
        scale: factor of the added term; LoRA's alpha / rank is the same number.
        roles: which layers, any of query, key, value, attention_out, mlp_in, mlp_out.
        dropout: between A and B, while training.
        bits: stored precision of A and B; None keeps floats.
    """

    folds: ClassVar[bool] = True

    rank: int = 8
    scale: float = 1.0
    roles: tuple[str, ...] = ("query", "value")
    dropout: float = option(0.0)
    bits: int | None = option(None)

    def __post_init__(self) -> None:
        check_positive("LoRA", "rank", self.rank)
        if not is_number(self.scale):
            raise ValueError(f"LoRA: scale must be a number, got {self.scale!r}")
        settle(self, "roles", (self.roles,) if isinstance(self.roles, str) else tuple(self.roles))
        if not self.roles:
            raise ValueError(f"LoRA: roles is empty; name at least one of {', '.join(LINEAR_ROLES)}")
        for role in self.roles:
            check_one_of("LoRA", "roles", role, LINEAR_ROLES)
        check_probability("LoRA", "dropout", self.dropout)

    def attach(self, model: "StagedViT") -> None:
        mine: set[LoRALinear] = set()  # a fused qkv is one layer and up to three sites
        for site in model.sites():
            if site.role not in self.roles:
                continue
            layer = site.layer
            if not isinstance(layer, nn.Linear) or (isinstance(layer, TunedLinear) and layer not in mine):
                raise ValueError(f"{self}: {site} already carries {type(layer).__name__}; one tuner per layer")
            if not isinstance(layer, LoRALinear):
                layer = LoRALinear(layer)
                site.put(layer)
                mine.add(layer)
            layer.terms[site.role] = LowRank(layer, site.rows, self)


class LowRank(nn.Module):
    """scale * B A x for some output rows of a layer."""

    def __init__(self, base: nn.Linear, rows: slice, settings: LoRA) -> None:
        super().__init__()
        where = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.down = nn.Linear(base.in_features, settings.rank, bias=False, **where)
        self.up = nn.Linear(settings.rank, rows.stop - rows.start, bias=False, **where)
        nn.init.zeros_(self.up.weight)
        self.dropout = nn.Dropout(settings.dropout)
        self.rows, self.scale = rows, settings.scale

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in] -> [..., rows]"""
        added = self.up(self.dropout(self.down(inputs)))
        return added if self.scale == 1 else added * self.scale


class LoRALinear(TunedLinear):
    """A linear layer with low-rank terms on some of its output rows."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base)
        self.terms = nn.ModuleDict()  # by role

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = F.linear(inputs, self.weight, self.bias)
        for term in self.terms.values():
            outputs = _add_to_rows(outputs, term(inputs), term.rows)
        return outputs

    def part(self, inputs: Tensor, rows: slice) -> Tensor:
        outputs = F.linear(inputs, self.weight[rows], None if self.bias is None else self.bias[rows])
        for term in self.terms.values():
            start, stop = max(term.rows.start, rows.start), min(term.rows.stop, rows.stop)
            if start < stop:
                added = term(inputs)[..., start - term.rows.start : stop - term.rows.start]
                outputs = _add_to_rows(outputs, added, slice(start - rows.start, stop - rows.start))
        return outputs

    def merged(self) -> nn.Linear:
        weight = self.weight.detach().clone()
        for term in self.terms.values():
            weight[term.rows] += term.scale * (term.up.weight @ term.down.weight).detach()
        return plain_linear(weight, self.bias)


def _add_to_rows(outputs: Tensor, added: Tensor, rows: slice) -> Tensor:
    """Add to a slice of the last dimension. In place where no gradient is recorded, padded where one is: both measured fastest."""
    if added.shape[-1] == outputs.shape[-1]:
        return outputs + added
    if torch.is_grad_enabled():
        return outputs + F.pad(added, (rows.start, outputs.shape[-1] - rows.stop))
    outputs[..., rows] += added
    return outputs
