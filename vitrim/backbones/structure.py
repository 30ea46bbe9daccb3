"""What a given module is built like, written down so that the same can be built again, and compared.

timm keeps no record of the arguments a model was made with. They are read back from its parts here, a second
model is made from them without weights, and only if every part of both agrees are they believed. A
module that cannot be described this way is saved without its backbone and has to be given again.
"""

import hashlib
import json
import types
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

from timm.layers.drop import DropPath
from torch import nn

from vitrim.backbones.geometry import image_size, set_image_size
from vitrim.backbones.shapes import shapes_only
from vitrim.backbones.structure_reading import ACTIVATIONS, BLOCKS, CLASSES, NORMS
from vitrim.backbones.support import TimmModule

LARGEST = 65536  # of any number that describes a model
IDLE = (nn.Dropout, DropPath, nn.Identity)  # all the same when predicting
NOT_STRUCTURE = {
    "training", "grad_checkpointing", "weight_init_mode", "fix_init", "fused_attn", "p", "drop_prob",
    "scale_by_keep", "init_values", "distilled_training", "inplace", "num_classes", "head_init_scale",
    "default_img_size",
}  # fmt: skip

Architecture = dict[str, Any]
Parts = list[tuple[Any, ...]]


def describe(vit: TimmModule) -> Architecture:
    """How to build this module again: {"name" or "class", "arguments"}; without arguments where that is not
    known."""
    name = (getattr(vit, "pretrained_cfg", None) or {}).get("architecture")
    size = list(image_size(vit))
    candidates: list[Architecture] = []
    if name:
        candidates.append({"name": name, "arguments": {"img_size": size, "num_classes": vit.num_classes}})
    made, read = CLASSES.get(type(vit).__name__, (None, None))
    if read is not None and type(vit) is made:
        with suppress(AttributeError, TypeError, KeyError):  # a part exchanged for one of another kind
            arguments = {"img_size": size, **read(vit)}
            candidates.append({"class": type(vit).__name__, "arguments": arguments})
    if not candidates:
        return {"class": type(vit).__name__}
    mine = _parts(vit)
    for candidate in candidates:
        if _twin_parts(json.dumps(candidate)) == mine:
            return candidate
    return {"class": type(vit).__name__}


@lru_cache(maxsize=64)
def _twin_parts(described: str) -> Parts | None:
    """The parts of a model built from a description, the text that files hold; None where none can be
    built. Kept, because a sweep or a test composes the same backbone again and again."""
    try:
        with shapes_only():
            return _parts(build(json.loads(described)))
    except Exception:  # timm asserts and raises many kinds for arguments that cannot be
        return None


def build(architecture: Architecture, **changes: Any) -> TimmModule:
    """A new model of a described structure, with weights of timm's own start."""
    import timm

    if "arguments" not in architecture:
        raise ValueError(
            f"the model was made on a {architecture.get('class')} that was passed as a module, whose "
            "structure "
            "cannot be built from a description; give it as backbone=MODULE"
        )
    arguments = {**_checked(architecture["arguments"]), **changes}
    if "name" in architecture:
        if not timm.is_model(architecture["name"]):
            raise ValueError(f"this timm has no model {architecture['name']!r}; install a newer one")
        return timm.create_model(architecture["name"], **arguments)
    made, _ = CLASSES.get(str(architecture.get("class")), (None, None))
    if made is None:
        raise ValueError(f"no class {architecture.get('class')!r}; known are {', '.join(CLASSES)}")
    norm, act = arguments.pop("norm", None), arguments.pop("act", None)
    if norm is not None:
        arguments["norm_layer"] = partial(NORMS[norm[0]], eps=float(norm[1]))
    if act is not None:
        arguments["act_layer"] = ACTIVATIONS[act]
    if "block" in arguments:
        arguments["block_fn"] = BLOCKS[arguments.pop("block")]
    if made.__name__ != "NaFlexVit":
        return made(**arguments)
    size = arguments.pop("img_size")  # which would give it another table of places, though it takes any size
    vit = made(**arguments)
    set_image_size(vit, size)
    return vit


def structure_digest(vit: TimmModule) -> str:
    """SHA-256 over the parts of a backbone, its classifier left out: names, kinds and what their text
    shows."""
    lines = [
        f"{name} {_kind(part)} {'' if isinstance(part, IDLE) else part.extra_repr()} "
        f"{getattr(part, 'num_heads', '')}"
        for name, part in vit.named_modules()
        if name.split(".")[0] not in ("head", "head_dist", "head_drop")
    ]
    about = [getattr(vit, name, None) for name in ("global_pool", "no_embed_class", "pool_include_prefix")]
    return hashlib.sha256(json.dumps([lines, about], default=str).encode()).hexdigest()


def _checked(arguments: Any) -> dict[str, Any]:
    """Arguments of a file, refused where no model has such."""
    if not isinstance(arguments, dict) or len(arguments) > 60:
        raise ValueError("the description of the backbone is damaged")
    for name, value in arguments.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        sensible = len(numbers) <= 4 and all(
            isinstance(one, str | bool | None) or (isinstance(one, int | float) and abs(one) <= LARGEST)
            for one in numbers
        )
        if not sensible or (name == "depth" and not 1 <= value <= 512):
            raise ValueError(f"the description of the backbone is damaged: {name} is {value!r}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}


def _kind(part: nn.Module) -> str:
    return "Identity" if isinstance(part, IDLE) else type(part).__name__


def _parts(vit: TimmModule) -> Parts:
    """Everything that decides what a model computes, but for its weights."""
    found: Parts = []
    for name, part in vit.named_modules():
        plain = {} if isinstance(part, IDLE) else vars(part)
        settings = sorted((key, _plain(value)) for key, value in plain.items() if _is_setting(key, value))
        found.append(
            (name, _kind(part), repr(settings), bool(part._forward_hooks or part._forward_pre_hooks))
        )
    weights = [*vit.named_parameters(), *vit.named_buffers()]
    return [*found, *((name, tuple(value.shape)) for name, value in weights)]


def _is_setting(key: str, value: Any) -> bool:
    if key.startswith("_") or key in NOT_STRUCTURE:
        return False
    return isinstance(value, bool | int | float | str | tuple | types.FunctionType | types.MethodType)


def _plain(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}" if callable(value) else repr(value)
