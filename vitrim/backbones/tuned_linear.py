"""Layers that carry something that trains, in place of a backbone's own: LoRA, SSF, FacT and the like.

A tuned linear layer **is** an `nn.Linear` that shares the base layer's parameters, so the keys of the
state dict do not move, counters still see a linear layer, and `merged()` gives back a plain one. Tuned
norms and convolutions (`tuners/ssf.py`) are built the same way.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.backbones.sites import Site
from vitrim.backbones.summed_products import Product, summed, trains_in_one_step

OWN_FORWARD_KNOWN = ("torch.nn.modules.", "timm.")  # layers whose forward tuned layers know and repeat


class Tuned(nn.Module):
    """Marks a layer that a tuner, `by`, has put in place of a backbone's own. One such tuner per layer."""

    by: str

    def merged(self) -> nn.Module:
        """A plain layer that computes the same."""
        raise TypeError(f"{type(self).__name__} cannot be folded into a plain layer")


class TunedLinear(nn.Linear, Tuned):
    """A linear layer in place of `base`, with its parameters and their names. Subclasses add what trains."""

    def __init__(self, base: nn.Linear, by: object) -> None:
        nn.Module.__init__(self)
        self.by = type(by).__name__
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.train(base.training)

    def part(self, inputs: Tensor, rows: slice) -> Tensor:
        """Only the outputs `rows`: [..., in] -> [..., rows]. Subclasses that can save work override it."""
        return self(inputs)[..., rows]

    def merged(self) -> nn.Linear:
        """A plain layer that computes the same."""
        raise TypeError(f"{type(self).__name__} cannot be folded into a plain linear layer")


class Term(nn.Module):
    """Something that trains and is added to the outputs `rows` of a linear layer."""

    def __init__(self, rows: slice) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, inputs: Tensor) -> Tensor:
        """What is added: [..., in] -> [..., rows]."""
        raise NotImplementedError

    def delta(self) -> Tensor:
        """The same as a matrix [rows, in], for folding."""
        raise NotImplementedError

    def product(self) -> Product | None:
        """The same as a product of two matrices; None where it is none, as under dropout."""
        return None


class SummedLinear(TunedLinear):
    """A linear layer with trained terms on some of its output rows: W x + b + sum of terms."""

    def __init__(self, base: nn.Linear, terms: Mapping[str, Term], by: object) -> None:
        super().__init__(base, by)
        self.terms = cast("Mapping[str, Term]", nn.ModuleDict(terms))  # by role

    def forward(self, inputs: Tensor) -> Tensor:
        if products := self._products(slice(0, self.out_features)):
            return summed(inputs, self.weight, self.bias, products)
        outputs = F.linear(inputs, self.weight, self.bias)
        for term in self.terms.values():
            outputs = _add_to_rows(outputs, term(inputs), term.rows)
        return outputs

    def part(self, inputs: Tensor, rows: slice) -> Tensor:
        bias = None if self.bias is None else self.bias[rows]
        if products := self._products(rows):
            return summed(inputs, self.weight[rows], bias, products)
        outputs = F.linear(inputs, self.weight[rows], bias)
        for term in self.terms.values():
            start, stop = max(term.rows.start, rows.start), min(term.rows.stop, rows.stop)
            if start < stop:
                added = term(inputs)[..., start - term.rows.start : stop - term.rows.start]
                outputs = _add_to_rows(outputs, added, slice(start - rows.start, stop - rows.start))
        return outputs

    def _products(self, rows: slice) -> list[Product]:
        """The terms on some of the outputs, where training may add all of them in one step; else none."""
        if not trains_in_one_step() or self.weight.requires_grad:
            return []
        found = [term.product() for term in self.terms.values()]
        products = [each for each in found if each is not None]
        if len(products) != len(found):
            return []
        cut = [each.within(rows) for each in products]
        return [each for each in cut if len(each.up)]

    def merged(self) -> nn.Linear:
        weight = self.weight.detach().clone()
        for term in self.terms.values():
            weight[term.rows] += term.delta().detach()
        return plain_linear(weight, self.bias)


def own_layer(site: Site, by: object) -> nn.Module:
    """The backbone's own frozen layer at a site; refused where another tuner has changed it already."""
    layer = site.layer
    if isinstance(layer, Tuned):
        raise ValueError(f"{by}: {site} already carries {layer.by}; one tuner per layer")
    if hooked(layer) or not type(layer).__module__.startswith(OWN_FORWARD_KNOWN):
        what = f"a {type(layer).__name__}" + (" with hooks" if hooked(layer) else "")
        raise ValueError(
            f"{by}: {site} is {what}, whose own computation would be lost in the tuned layer; give a "
            "backbone of plain layers, or leave this role out"
        )
    if layer.weight.requires_grad:
        raise ValueError(f"{by}: the weight of {site} already trains; one tuner per layer")
    return layer


def own_linear(site: Site, by: object) -> nn.Linear:
    """The same for a linear layer; anything else is refused."""
    layer = own_layer(site, by)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"{by}: {site} is a {type(layer).__name__}, not a linear layer")
    return layer


def linear_rows(layer: nn.Linear, inputs: Tensor, rows: slice) -> Tensor:
    """The outputs `rows` of a linear layer, and no others where the layer can: [..., in] -> [..., rows].

    Whatever is not exactly a linear layer (a subclass, quantised, hooked, parametrised) is run by its own
    call.
    """
    if not computes_rows(layer):
        outputs: Tensor = layer(inputs)
        return outputs[..., rows]
    if isinstance(layer, TunedLinear):
        return layer.part(inputs, rows)
    return F.linear(inputs, layer.weight[rows], None if layer.bias is None else layer.bias[rows])


def computes_rows(layer: nn.Module) -> bool:
    """Whether some of a layer's outputs can be had alone: it is exactly a linear layer, or one of ours."""
    return (type(layer) is nn.Linear or isinstance(layer, TunedLinear)) and not hooked(layer)


def hooked(layer: nn.Module) -> bool:
    """Whether something runs before or after a layer's own forward."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A plain frozen `nn.Linear` holding these values."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = frozen(weight)
    if bias is not None:
        layer.bias = frozen(bias)
    return layer


def frozen(value: Tensor) -> nn.Parameter:
    """A parameter that does not train."""
    return nn.Parameter(value.detach(), requires_grad=False)


def _add_to_rows(outputs: Tensor, added: Tensor, rows: slice) -> Tensor:
    """Add to a slice of the last dimension: in place without gradients, else padded; measured fastest."""
    if added.shape[-1] == outputs.shape[-1]:
        return outputs + added
    if torch.is_grad_enabled():
        return outputs + F.pad(added, (rows.start, outputs.shape[-1] - rows.stop))
    outputs[..., rows] += added
    return outputs
