"""Tensors that other libraries hold in other shapes: joined projections, bare vectors, classifiers without a
bias."""

import torch
from torch import Tensor


def plain_heads(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's image projection is a classifier without a bias, in one library the other way round; DINOv2's in
    transformers reads the class token and the patches' average, which zeros there leave out.
    """
    head, norm = tensors.get("head.weight"), tensors.get("norm.weight")
    if head is not None and norm is not None and head.ndim == 2 and head.shape[1] == 2 * len(norm):
        token, average = head.chunk(2, dim=1)
        if not bool(average.any()):
            tensors["head.weight"] = token
    turned = tensors.pop("head.weight.transposed", None)
    if turned is not None:
        tensors["head.weight"] = turned.T
    if "head.weight" in tensors and "head.bias" not in tensors:
        weight = tensors["head.weight"]
        tensors["head.bias"] = weight.new_zeros(weight.shape[0])
    return tensors


def apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A timm model's tensors with query, key and value of every attention as three, as the key maps name
    them; those of SigLIP's attention pool as one."""
    found = dict(tensors)
    for owner in sorted({key.split(".attn.")[0] for key in tensors if ".attn." in key}):
        at = f"{owner}.attn."
        for kind in ("weight", "bias"):
            found.update({f"{at}{part}.{kind}": value for part, value in _take(found, at, kind).items()})
    for kind in ("weight", "bias"):
        pool = [found.pop(f"attn_pool.{part}.{kind}", None) for part in ("q", "kv")]
        if pool[0] is not None and pool[1] is not None:
            found[f"attn_pool.in_proj.{kind}"] = torch.cat([pool[0], pool[1]])
    return found


def fit_projections(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value as the model has them: one layer or three, with the biases it has."""
    found = dict(tensors)
    for owner in sorted({key.split(".attn.")[0] for key in tensors if ".attn." in key}):
        if f"{owner}.attn.q.weight" not in wanted:  # as CaiT's class attention is written, in all files
            _fit_attention(found, f"{owner}.attn.", wanted)
    _fit_pool(found, wanted)
    return found


def _fit_attention(found: dict[str, Tensor], at: str, wanted: dict[str, Tensor]) -> None:
    weights = _take(found, at, "weight")
    biases = _take(found, at, "bias")
    if len(weights) < 3:  # nothing to rearrange: whatever is missing is named by the strict check
        found.update({f"{at}{part}_proj.weight": value for part, value in weights.items()})
        found.update({f"{at}{part}_proj.bias": value for part, value in biases.items()})
        return
    if f"{at}q_proj.weight" in wanted:
        found.update({f"{at}{part}_proj.weight": value for part, value in weights.items()})
        for part, value in biases.items():
            if f"{at}{part}_proj.bias" in wanted or bool(value.any()):
                found[f"{at}{part}_proj.bias"] = value
        return
    unknown = f"{at}qkv.weight" not in wanted  # of a block the model lacks: all its tensors are named
    found[f"{at}qkv.weight"] = torch.cat([weights[part] for part in "qkv"])
    if not biases:
        return
    if f"{at}q_bias" in wanted:  # EVA has none for the keys
        found.update({f"{at}{part}_bias": value for part, value in biases.items() if part != "k"})
        if "k" in biases and bool(biases["k"].any()):
            found[f"{at}k_bias"] = biases["k"]
    elif unknown or f"{at}qkv.bias" in wanted or any(bool(value.any()) for value in biases.values()):
        like = next(iter(biases.values()))
        found[f"{at}qkv.bias"] = torch.cat([biases.get(part, torch.zeros_like(like)) for part in "qkv"])


def _take(found: dict[str, Tensor], at: str, kind: str) -> dict[str, Tensor]:
    """Remove the query, key and value weights (or biases) of one attention from `found`, under their
    letters."""
    joint = found.get(f"{at}qkv.{kind}")
    if joint is not None and joint.shape[0] % 3 == 0:
        found.pop(f"{at}qkv.{kind}")
        return dict(zip("qkv", joint.chunk(3), strict=True))
    taken = {}
    for part in "qkv":
        names = [f"{at}{part}.{kind}", f"{at}{part}_proj.{kind}"]
        for name in [*names, f"{at}{part}_bias"] if kind == "bias" else names:
            if name in found:
                taken[part] = found.pop(name)
    return taken


def _fit_pool(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """The attention pool of SigLIP: one layer for the query, one for key and value together."""
    for kind in ("weight", "bias"):
        joint = found.pop(f"attn_pool.in_proj.{kind}", None)
        if joint is not None:
            width = joint.shape[0] // 3
            found[f"attn_pool.q.{kind}"], found[f"attn_pool.kv.{kind}"] = joint[:width], joint[width:]
        apart = [found.get(f"attn_pool.{part}.{kind}") for part in "kv"]
        if apart[0] is not None and apart[1] is not None:
            found.pop(f"attn_pool.k.{kind}")
            found.pop(f"attn_pool.v.{kind}")
            found[f"attn_pool.kv.{kind}"] = torch.cat([apart[0], apart[1]])


def fit_vectors(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Axes of length one added or removed where that is all that differs: [D] and [1, 1, D] are one token."""
    found = {}
    for name, value in tensors.items():
        model = wanted.get(name)
        alike = model is not None and [side for side in model.shape if side > 1] == [
            side for side in value.shape if side > 1
        ]
        found[name] = value.reshape(model.shape) if alike and model is not None else value
    return found
