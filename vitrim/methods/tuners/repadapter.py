"""RepAdapter: a linear bottleneck before attention and MLP that folds into the layers reading it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.backbones.sites import Site
from vitrim.backbones.tuned_linear import TunedLinear, own_linear, plain_linear
from vitrim.checks import check_one_of, check_positive, check_probability, is_number, several
from vitrim.network.method import Method, option, store_blocks, store_setting

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

BEFORE = {"attention": ("query", "key", "value"), "mlp": ("mlp_in",)}


@dataclass(frozen=True, repr=False)
class RepAdapter(Method):
    """Re-parameterised adapter (arXiv 2302.08106): before qkv and before fc1, without a non-linearity,

        f(x) = x + scale * (B dropout(A x + a) + b),    x after the norm

    A is [width, D]; B is grouped: the g-th part of the hidden vector produces the g-th part of the
    channels. A starts Xavier uniform, B and the biases at zero, so the model starts unchanged. 2 L (D
    width (1 + 1 / groups) + width + D) parameters (ViT-B/16, width 8: 239,808; attention only 119,904).
    With B_d the dense form of B it folds exactly: W (I + scale * B_d A) and bias + W scale (B_d a + b).

    Where several layers read the norm (separate query, key and value; SwiGLU's two input layers), they
    share one adapter. The released code leaves LayerScale out and uses one drop path for both residuals;
    this does neither.

    Attributes:
        width: of the bottleneck.
        groups: of the second layer; must divide D and width.
        scale: factor of the added term, chosen per task in the paper.
        before: "attention", "mlp" or both (`repattn` and `repblock` in the released code).
        dropout: on the hidden vector, while training.
        at: indices of the blocks that have it, counted from 0; None for all.
    """

    folds: ClassVar[bool] = True

    width: int = 8
    groups: int = 2
    scale: float = option(1.0)
    before: tuple[str, ...] = option(("attention", "mlp"))
    dropout: float = option(0.0)
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        check_positive("RepAdapter", "width", self.width)
        check_positive("RepAdapter", "groups", self.groups)
        if self.width % self.groups:
            raise ValueError(f"RepAdapter: groups={self.groups} does not divide width={self.width}")
        if not is_number(self.scale) or not math.isfinite(self.scale):
            raise ValueError(f"RepAdapter: scale must be a number, got {self.scale!r}")
        store_setting(self, "before", several("RepAdapter", "before", self.before, str))
        if not self.before:
            raise ValueError('RepAdapter: before is empty; name "attention", "mlp" or both')
        for half in self.before:
            check_one_of("RepAdapter", "before", half, BEFORE)
        check_probability("RepAdapter", "dropout", self.dropout)

    def attach(self, model: "StagedViT") -> None:
        if model.width % self.groups:
            raise ValueError(
                f"{self}: groups={self.groups} does not divide the backbone's width {model.width}"
            )
        wanted = {role for half in self.before for role in BEFORE[half]}
        readers: dict[nn.Module, dict[str, Site]] = {}  # layers reading each norm, by name
        others: dict[nn.Module, Site] = {}
        for site in model.sites_in(self.at, self):
            if site.role in wanted:
                readers.setdefault(site.owner, {}).setdefault(site.name, site)
            elif any(site.role in roles for roles in BEFORE.values()):
                others[site.layer] = site
        self._check_alone(readers, others)
        for layers in readers.values():
            adapter: GroupedBottleneck | None = None
            for site in layers.values():
                base = own_linear(site, self)
                owned = adapter is None
                adapter = adapter or GroupedBottleneck(base.in_features, self, like=base.weight)
                site.put(AdaptedLinear(base, adapter, owned, self))

    def _check_alone(
        self, readers: Mapping[nn.Module, Mapping[str, Site]], others: Mapping[nn.Module, Site]
    ) -> None:
        for site in (site for layers in readers.values() for site in layers.values()):
            if site.layer in others:
                raise ValueError(
                    f"{self}: {site} and {others[site.layer]} are one layer here, so one adapter comes "
                    'before both; set before=("attention", "mlp")'
                )


class GroupedBottleneck(nn.Module):
    """f(x) = x + scale * (B dropout(A x + a) + b) with grouped B."""

    def __init__(self, width: int, settings: RepAdapter, like: Tensor) -> None:
        super().__init__()
        device, dtype, part = like.device, like.dtype, settings.width // settings.groups
        self.down = nn.Linear(width, settings.width, device=device, dtype=dtype)
        self.up = nn.Linear(
            part, width, device=device, dtype=dtype
        )  # the groups' matrices, one below another
        self.dropout = nn.Dropout(settings.dropout)
        self.groups, self.scale = settings.groups, settings.scale
        nn.init.xavier_uniform_(self.down.weight)
        for silent in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(silent)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.dropout(self.down(inputs)).chunk(self.groups, dim=-1)
        rows = self.up.weight.chunk(self.groups), self.up.bias.chunk(self.groups)
        added = torch.cat(
            [F.linear(h, weight, bias) for h, weight, bias in zip(hidden, *rows, strict=True)], dim=-1
        )
        return torch.add(inputs, added, alpha=self.scale)

    def dense(self) -> tuple[Tensor, Tensor]:
        """The same as one matrix [D, D] and one vector [D]."""
        up = torch.block_diag(*self.up.weight.chunk(self.groups))  # [D, width]
        identity = torch.eye(up.shape[0], device=up.device, dtype=up.dtype)
        return identity + self.scale * (up @ self.down.weight), self.scale * (
            up @ self.down.bias + self.up.bias
        )


class AdaptedLinear(TunedLinear):
    """W f(x) + b. Of several layers that share one adapter, the first owns it in the state dict."""

    def __init__(self, base: nn.Linear, adapter: GroupedBottleneck, owned: bool, by: Method) -> None:
        super().__init__(base, by)
        if owned:
            self.adapter = adapter
        self.reads = (adapter,)  # a tuple, so that layers that share it do not register it again

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(self.reads[0](inputs), self.weight, self.bias)

    def part(self, inputs: Tensor, rows: slice) -> Tensor:
        return F.linear(
            self.reads[0](inputs), self.weight[rows], None if self.bias is None else self.bias[rows]
        )

    def merged(self) -> nn.Linear:
        matrix, vector = self.reads[0].dense()
        shift = self.weight @ vector
        return plain_linear(self.weight @ matrix, shift if self.bias is None else self.bias + shift)
