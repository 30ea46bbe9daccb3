"""The backbone inside a checkpoint: below which prefix it stands, in whose names, and what stands
beside it."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from vitrim.backbones.weights.jax_arrays import torch_endings, unstack
from vitrim.backbones.weights.key_maps import BESIDE, CLIP, JAX, LAYOUTS, MARKS, PREFERRED, Layout
from vitrim.backbones.weights.reshaping import plain_heads


class Found(NamedTuple):
    """A backbone's tensors by timm's names, and where they were."""

    layout: Layout
    prefix: str
    tensors: dict[str, Tensor]
    left_over: tuple[str, ...]  # beside the backbone, neither its classifier nor known to be no part of it
    passed_over: int  # tensors that pretraining or another network needs
    quick_gelu: bool  # OpenAI's own files, whose models compute GELU their own way


def find_backbone(content: Mapping[str, Tensor], name: str) -> Found:
    """The backbone among a file's tensors, by timm's names; `name` is the file's, for the refusal."""
    # transformers writes a tensor without elements where a model has no registers
    tensors = {_unmarked(key): value for key, value in content.items() if value.numel()}
    if not tensors:
        raise ValueError(f"{name!r} holds no tensors")
    places = [(layout, prefix) for layout in LAYOUTS for prefix in _prefixes(layout, tensors)]
    if not places:
        some = ", ".join(sorted(tensors)[:2])
        raise ValueError(
            f"{name!r} holds no Vision Transformer under any names vitrim knows: {len(tensors)} "
            "tensors such as "
            f"{some}"
        )
    layout, prefix = _preferred(places, name)
    inside, outside = {}, {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            inside[key.removeprefix(prefix)] = value
        else:
            outside[key] = value
    if layout is JAX:
        inside = unstack(inside)
    named, dropped = _translated(layout, prefix, inside, name)
    others = tuple(other for _, other in places if other != prefix and not prefix.startswith(other))
    named = torch_endings(named) if layout is JAX else named
    left, beside = _beside(layout, outside, named, others)
    quick = layout is CLIP and any(key.endswith("input_resolution") for key in outside)
    return Found(layout, prefix, plain_heads(named), tuple(left), dropped + beside, quick)


def name_in_timm(layout: Layout, prefix: str, key: str) -> str | None:
    """timm's name for one name of a library's model, whose backbone stands below `prefix`; None for what is
    ignored, and for what stands beside the backbone and is not its classifier."""
    if key.startswith(prefix):
        return layout.translate(key.removeprefix(prefix))
    return _outside(layout, key) or None


def _outside(layout: Layout, key: str) -> str:
    matches = ((re.fullmatch(rf"(?:.*\.)?{rule}", key), name) for rule, name in layout.outside)
    return next((match.expand(name) for match, name in matches if match), "")


def _unmarked(key: str) -> str:
    for mark in MARKS:
        key = key.replace(mark, "")
    return key


def _prefixes(layout: Layout, tensors: Iterable[str]) -> list[str]:
    """Below which prefixes there is a backbone of this layout."""
    names = list(tensors)
    ends = (re.fullmatch(rf"((?:.*[./])?)(?:{layout.sign})", key) for key in names)
    found = sorted({match[1] for match in ends if match})
    return [
        prefix
        for prefix in found
        if any(
            key.startswith(prefix) and re.fullmatch(layout.also, key.removeprefix(prefix)) for key in names
        )
    ]


def _preferred(places: list[tuple[Layout, str]], name: str) -> tuple[Layout, str]:
    if len(places) == 1:
        return places[0]
    for word in PREFERRED:
        fitting = [place for place in places if re.search(rf"(?:^|[._]){word}(?:[._]|$)", place[1])]
        if fitting:
            places = fitting
            break
    if len(places) == 1:
        return places[0]
    where = " and ".join(repr(prefix) for _, prefix in places[:3])
    raise ValueError(
        f"{name!r} holds {len(places)} backbones, below {where}; save the one that is meant alone"
    )


def _translated(
    layout: Layout, prefix: str, inside: Mapping[str, Tensor], name: str
) -> tuple[dict[str, Tensor], int]:
    named: dict[str, Tensor] = {}
    dropped = 0
    for key, value in inside.items():
        new = layout.translate(key)
        if new is None or ("base_encoder" in prefix and re.match(r"head\.\d", key)):  # MoCo's projection
            dropped += 1
        elif new in named:
            raise ValueError(f"{name!r} has two tensors for {new}, the second is {key}")
        else:
            named[new] = value
    return named, dropped


def _beside(
    layout: Layout, outside: Mapping[str, Tensor], named: dict[str, Tensor], others: tuple[str, ...]
) -> tuple[list[str], int]:
    """Add the classifier that stands beside the backbone; tell the rest apart into left over and known."""
    left, known = [], 0
    for key, value in outside.items():
        new = _outside(layout, key)
        if new and new not in named and not key.startswith(others or ("\0",)):
            named[new] = value
        elif key.startswith(others or ("\0",)) or any(re.fullmatch(rule, key) for rule in BESIDE):
            known += 1
        else:
            left.append(key)
    return left, known
