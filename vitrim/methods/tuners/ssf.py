"""SSF: every layer's output is scaled and shifted per channel, and all of it folds away."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.backbones.sites import ROLES, Site
from vitrim.backbones.tuned_linear import Tuned, TunedLinear, frozen, own_layer, plain_linear
from vitrim.checks import check_one_of, several
from vitrim.network.method import Method, option, store_blocks, store_setting

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class SSF(Method):
    """Scaling and shifting features (arXiv 2210.08823): y -> gamma * y + beta, one of each per channel.

    After the patch embedding, every norm and every linear layer of the blocks (fc1 before its activation)
    and the final norm. gamma starts N(1, .02), beta N(0, .02), so the start is close to the backbone, not
    equal to it. 2 D (11 L + 2) parameters (ViT-B/16: 205,824), twice BitFit's. Folds exactly: a linear
    layer or convolution into gamma W and gamma b + beta, a norm likewise; the released code has no
    folding.

    Backbones with more layers of these kinds (norms of queries and keys, of SwiGLU's hidden activations,
    before the first block) get them there too. Where timm adds query and value biases after the layer
    (EVA-02, DINOv3), they are added after scale and shift.

    Attributes:
        roles: after which layers, any of query, key, value, attention_out, mlp_in, mlp_out, norm, patch;
            query, key
            and value go together on backbones that compute them in one layer.
        at: indices of the blocks whose layers have it, counted from 0; None for all, and the layers outside
            the blocks.
    """

    starts_unchanged: ClassVar[bool] = False  # near the backbone: scales start around 1
    folds: ClassVar[bool] = True
    trains_own: ClassVar[bool] = True

    roles: tuple[str, ...] = option(ROLES)
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        store_setting(self, "roles", several("SSF", "roles", self.roles, str))
        if not self.roles:
            raise ValueError(f"SSF: roles is empty; name at least one of {', '.join(ROLES)}")
        for role in self.roles:
            check_one_of("SSF", "roles", role, ROLES)

    def attach(self, model: "StagedViT") -> None:
        layers: dict[tuple[nn.Module, str], list[Site]] = {}
        for site in model.sites_in(self.at, self):
            layers.setdefault((site.owner, site.name), []).append(site)
        if not any(site.role in self.roles for found in layers.values() for site in found):
            raise ValueError(f"{self}: there is no such layer in these blocks; leave at out, or name others")
        for found in layers.values():
            wanted = [site for site in found if site.role in self.roles]
            if wanted and len(wanted) < len(found):
                names = [site.role for site in found]
                together, count = f"{', '.join(names[:-1])} and {names[-1]}", {3: "three"}.get(len(names), "")
                raise ValueError(f"{self}: {together} are one layer here; name all {count or 'four'} or none")
            if wanted:
                found[0].put(_tuned(own_layer(found[0], self), found[0], self))


def _tuned(layer: nn.Module, site: Site, by: SSF) -> Tuned:
    if isinstance(layer, nn.Linear):
        return ScaledLinear(layer, by)
    if isinstance(layer, nn.LayerNorm) and layer.weight is not None and layer.bias is not None:
        return ScaledNorm(layer, by)
    if isinstance(layer, nn.Conv2d):
        return ScaledConv(layer, by)
    raise ValueError(f"{by}: {site} is a {type(layer).__name__}, which holds no shift; leave its role out")


class ScaleShift(nn.Module):
    """gamma and beta of one layer."""

    def __init__(self, width: int, like: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(like.new_empty(width).normal_(1.0, 0.02))
        self.shift = nn.Parameter(like.new_empty(width).normal_(0.0, 0.02))

    def folded_bias(self, bias: Tensor | None) -> Tensor:
        """The bias of the folded layer; a layer without one gets one."""
        return self.shift if bias is None else torch.addcmul(self.shift, bias, self.scale)


class ScaledLinear(TunedLinear):
    """gamma * (W x + b) + beta."""

    def __init__(self, base: nn.Linear, by: Method) -> None:
        super().__init__(base, by)
        self.ssf = ScaleShift(base.out_features, base.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.addcmul(self.ssf.shift, F.linear(inputs, self.weight, self.bias), self.ssf.scale)

    def part(self, inputs: Tensor, rows: slice) -> Tensor:
        outputs = F.linear(inputs, self.weight[rows], None if self.bias is None else self.bias[rows])
        return torch.addcmul(self.ssf.shift[rows], outputs, self.ssf.scale[rows])

    def merged(self) -> nn.Linear:
        return plain_linear(self.ssf.scale[:, None] * self.weight, self.ssf.folded_bias(self.bias))


class ScaledNorm(nn.LayerNorm, Tuned):
    """A layer norm with gamma * weight and gamma * bias + beta, folded as it runs: they are only vectors."""

    def __init__(self, base: nn.LayerNorm, by: Method) -> None:
        nn.Module.__init__(self)
        self.by = type(by).__name__
        self.normalized_shape, self.eps = base.normalized_shape, base.eps
        self.elementwise_affine = True
        self.weight, self.bias = base.weight, base.bias
        self.ssf = ScaleShift(base.normalized_shape[-1], base.weight)
        self.train(base.training)

    def forward(self, inputs: Tensor) -> Tensor:
        weight, bias = self.ssf.scale * self.weight, self.ssf.folded_bias(self.bias)
        return F.layer_norm(inputs, self.normalized_shape, weight, bias, self.eps)

    def merged(self) -> nn.LayerNorm:
        plain = nn.LayerNorm(self.normalized_shape, self.eps, device="meta")
        plain.weight = frozen(self.ssf.scale * self.weight)
        plain.bias = frozen(self.ssf.folded_bias(self.bias))
        return plain


class ScaledConv(nn.Conv2d, Tuned):
    """gamma * (W * x + b) + beta, per output channel."""

    def __init__(self, base: nn.Conv2d, by: Method) -> None:
        super().__init__(**_shape(base), bias=base.bias is not None, device="meta")
        self.by = type(by).__name__
        self.weight, self.bias = base.weight, base.bias
        self.ssf = ScaleShift(base.out_channels, base.weight)
        self.train(base.training)

    def forward(self, inputs: Tensor) -> Tensor:
        scale, shift = self.ssf.scale[:, None, None], self.ssf.shift[:, None, None]
        return torch.addcmul(shift, super().forward(inputs), scale)

    def merged(self) -> nn.Conv2d:
        plain = nn.Conv2d(**_shape(self), bias=True, device="meta")
        plain.weight = frozen(self.ssf.scale[:, None, None, None] * self.weight)
        plain.bias = frozen(self.ssf.folded_bias(self.bias))
        return plain


def _shape(conv: nn.Conv2d) -> dict[str, Any]:
    """What builds another convolution of the same shape."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    return {name: getattr(conv, name) for name in names}
