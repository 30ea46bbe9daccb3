"""Between LoRA by module name, as PEFT has it, and LoRA by role: which settings, which rows of which matrix.

PEFT knows one A and one B for a layer. Where query, key and value are one layer, that is
`LoRA(shared=True)` here. A LoRA with an A for each role is to PEFT one A, those of the roles one above
another, and one B of blocks with zeros between; a B of that form is read back into roles.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vitrim.backbones.sites import LINEAR_ROLES, Site
from vitrim.backbones.tuned_linear import SummedLinear
from vitrim.methods.tuners.lora import LoRA, LowRank, weight_in_use
from vitrim.network.model import StagedViT


class Pair(NamedTuple):
    """scale * B A of one layer: A [rank, in], B [out, rank]."""

    down: Tensor
    up: Tensor
    scale: float


def as_one(layer: SummedLinear) -> Pair:
    """All low-rank terms of a layer as one."""
    terms = [term for term in layer.terms.values() if isinstance(term, LowRank)]
    down = torch.cat([weight_in_use(term.down) for term in terms])
    up = down.new_zeros(layer.out_features, down.shape[0])
    start = 0
    for term in terms:
        block = weight_in_use(term.up)
        up[term.rows, start : start + block.shape[1]] = block
        start += block.shape[1]
    return Pair(down.detach(), up.detach(), terms[0].scale)


def settings(model: StagedViT, pairs: Mapping[str, Pair]) -> LoRA:
    """The `LoRA` that holds these pairs, by module name; refused in a sentence where none does."""
    found = by_layer(model)
    parted = {name: parts(pair, found[name]) for name, pair in pairs.items()}
    shared = any(part is None for part in parted.values())
    tuned: dict[int, set[str]] = {}  # layers and roles of every block
    ranks: dict[int, int] = {}
    roles: set[str] = set()
    for name, pair in pairs.items():
        whole = parted[name] is None or (shared and len(found[name]) > 1)
        terms = {site.role: pair for site in found[name]} if whole else parted[name] or {}
        block = found[name][0].block or 0
        tuned.setdefault(block, set()).update(f"{role} of {found[name][0].name}" for role in terms)
        roles |= set(terms)
        for term in terms.values():
            if ranks.setdefault(block, term.down.shape[0]) != term.down.shape[0]:
                raise ValueError(f"the adapter has several ranks in block {block}; LoRA has one")
    _check_same_everywhere(model, tuned, roles)
    each = tuple(ranks.get(block, 0) for block in range(model.depth))
    scales = [pair.scale for pair in pairs.values()]
    return LoRA(
        rank=each[0] if len(set(each)) == 1 else each,
        scale=scales[0] if all(math.isclose(scale, scales[0]) for scale in scales) else 1.0,
        roles=tuple(role for role in LINEAR_ROLES if role in roles),
        shared=shared,
    )


def _check_same_everywhere(model: StagedViT, tuned: Mapping[int, set[str]], roles: set[str]) -> None:
    for block, here in tuned.items():
        wanted = {f"{s.role} of {s.name}" for s in model.sites() if s.block == block and s.role in roles}
        if wanted != here:
            lacking = ", ".join(sorted(wanted - here))
            raise ValueError(f"the adapter leaves out {lacking} in block {block} only, which LoRA cannot")


def fill_pairs(model: StagedViT, pairs: Mapping[str, Pair], lora: LoRA) -> None:
    """Copy the pairs into a model that was composed with `settings(...)`."""
    found = by_layer(model)
    for name, pair in pairs.items():
        layer = model.vit.get_submodule(name)
        terms = {"shared": pair} if "shared" in layer.terms else parts(pair, found[name]) or {}
        factor = 1.0 if math.isclose(pair.scale, lora.scale) else pair.scale / lora.scale
        with torch.no_grad():
            for role, term in terms.items():
                layer.terms[role].down.weight.copy_(term.down)
                layer.terms[role].up.weight.copy_(term.up * factor)


def parts(pair: Pair, sites: list[Site]) -> dict[str, Pair] | None:
    """A pair in one part for each role it changes, None where roles share A."""
    if len(sites) == 1:
        return {sites[0].role: pair}
    changed = [site for site in sites if pair.up[site.rows].any()]
    rank, odd = divmod(pair.down.shape[0], max(1, len(changed)))
    if not changed or odd:
        return None
    found = {}
    for i, site in enumerate(changed):
        own = slice(i * rank, (i + 1) * rank)
        others = pair.up[site.rows].clone()
        others[:, own] = 0
        if others.any():
            return None
        found[site.role] = Pair(pair.down[own], pair.up[site.rows, own], pair.scale)
    return found


def by_layer(model: StagedViT) -> dict[str, list[Site]]:
    """The linear sites of a model by timm's module name."""
    names = {id(module): name for name, module in model.vit.named_modules()}
    found: dict[str, list[Site]] = {}
    for site in model.sites():
        if site.role in LINEAR_ROLES:
            found.setdefault(names[id(site.layer)], []).append(site)
    return found


def unreached(model: StagedViT, name: str) -> bool:
    """Whether timm reads a weight without calling its layer (fused qkv, biases apart): PEFT acts on calls."""
    owner: nn.Module = model.vit.get_submodule(name.rpartition(".")[0])
    return name.endswith(".qkv") and getattr(owner, "q_bias", None) is not None
