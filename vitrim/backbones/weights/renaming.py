"""A timm model's tensors under another library's names: the key maps, read backwards.

The names are asked of the library's own model: the map says what each of them is called in timm, and its
value is taken from there. So there is one table for both directions, and what it does not know is refused.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vitrim.backbones.weights.key_maps import TIMM
from vitrim.backbones.weights.reshaping import apart
from vitrim.backbones.weights.strict import other_name, some
from vitrim.backbones.weights.wrappers import find_backbone, name_in_timm


def renamed(
    mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], model: str, library: str
) -> dict[str, Tensor]:
    """`mine` under the names and in the shapes of `theirs`, the state dict of the library's own model.

    Raises ValueError where either has a tensor that the other has no place for; `model` and `library` are for
    the sentence.
    """
    kept = apart({name: value for name, value in mine.items() if TIMM.translate(name) is not None})
    found = find_backbone(theirs, library)
    filled: dict[str, Tensor] = {}
    left, missing = dict(kept), []
    for name, like in theirs.items():
        meant = name_in_timm(found.layout, found.prefix, name)
        if meant is None or not like.numel():  # only pretraining reads it, and it starts as zeros
            filled[name] = torch.zeros_like(like)
            continue
        names, value = _value(other_name(meant, kept), kept)
        shaped = None if value is None else _shaped(meant, value, like)
        if shaped is None:
            missing.append(name)
            continue
        filled[name] = shaped.to(like.dtype).contiguous().clone()
        for each in names:
            left.pop(each, None)
    homeless = [name for name, value in left.items() if not (name.endswith("bias") and _is_zero(value))]
    if missing or homeless:
        raise ValueError(f"{library} has no form for {model}: {_what(homeless, missing)}")
    return filled


def _value(name: str, mine: Mapping[str, Tensor]) -> tuple[tuple[str, ...], Tensor | None]:
    """The names that timm keeps a value under, and the value; a bias that is not there is zeros."""
    if name in mine:
        return (name,), mine[name]
    owner, _, kind = name.rpartition(".")
    if owner.endswith(".attn.qkv"):
        names = tuple(f"{owner.removesuffix('qkv')}{part}.{kind}" for part in "qkv")
        parts = [_value(each, mine)[1] for each in names]
        return names, torch.cat([part for part in parts if part is not None]) if None not in parts else None
    weight = mine.get(f"{owner}.weight")
    if kind == "bias" and weight is not None:
        return (), weight.new_zeros(weight.shape[0])
    return (), None


def _shaped(name: str, value: Tensor, like: Tensor) -> Tensor | None:
    """A value in the shape the library has it in, None where that would be another value."""
    if [side for side in value.shape if side > 1] == [side for side in like.shape if side > 1]:
        return value.reshape(like.shape)
    if name == "pos_embed" and value.shape[-1] == like.shape[-1]:
        places = value.reshape(-1, value.shape[-1])  # [N, D], none of the class token
        if like.numel() == places.numel() + places.shape[1]:
            return torch.cat([places.new_zeros(1, places.shape[1]), places]).reshape(like.shape)
    if name == "head.weight" and like.shape == (value.shape[0], 2 * value.shape[1]):
        return torch.cat([value, torch.zeros_like(value)], 1)  # DINOv2's: the patches' average is not read
    return None


def _is_zero(value: Tensor) -> bool:
    return not bool(value.any())


def _what(homeless: list[str], missing: list[str]) -> str:
    said = [f"{len(homeless)} of its tensors have no place there ({some(homeless)})"] if homeless else []
    if missing:
        said.append(f"{len(missing)} of theirs find no value of that shape in it ({some(missing)})")
    return ", and ".join(said)
