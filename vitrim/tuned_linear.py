"""Linear layers that carry something that trains: the base class of LoRA, SSF and the like.

A tuned layer **is** an `nn.Linear` that shares the base layer's parameters, so the keys of the state dict do
not move, counters still see a linear layer, and `merged()` gives back a plain one.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class TunedLinear(nn.Linear):
    """A linear layer in place of `base`, with the same parameters under the same names. Subclasses add what
    trains."""

    def __init__(self, base: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.train(base.training)

    def part(self, inputs: Tensor, rows: slice) -> Tensor:
        """Only the outputs `rows`: [..., in] -> [..., rows]. Subclasses that can save work override it."""
        return self(inputs)[..., rows]

    def merged(self) -> nn.Linear:
        """A plain layer that computes the same."""
        raise TypeError(f"{type(self).__name__} cannot be folded into a plain linear layer")


def linear_rows(layer: nn.Linear, inputs: Tensor, rows: slice) -> Tensor:
    """The outputs `rows` of a linear layer, computing no others where the layer is plain: [..., in] -> [...,
    rows]."""
    if isinstance(layer, TunedLinear):
        return layer.part(inputs, rows)
    return F.linear(inputs, layer.weight[rows], None if layer.bias is None else layer.bias[rows])


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A plain frozen `nn.Linear` holding these values."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer
