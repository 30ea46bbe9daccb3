"""All of a file's weights into all of a model, or a sentence that says what does not fit."""

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from timm.layers.activations import QuickGELU
from torch import Tensor

from vitrim.backbones.support import TimmModule
from vitrim.backbones.weights.describe import looks_like, shape_words
from vitrim.backbones.weights.key_maps import JAX
from vitrim.backbones.weights.positions import fit_positions
from vitrim.backbones.weights.reshaping import fit_projections, fit_vectors
from vitrim.backbones.weights.wrappers import Found

# The same layer under the name its other model class has; taken where the model knows only the second.
OTHER_NAMES = (
    (r"(blocks\.\d+)\.ls([12])\.gamma", r"\1.gamma_\2"),
    (r"(blocks\.\d+)\.gamma_([12])", r"\1.ls\2.gamma"),
    (r"(blocks\.\d+\.mlp)\.w12\.(.*)", r"\1.fc1.\2"),
    (r"(blocks\.\d+\.mlp)\.w1\.(.*)", r"\1.fc1_g.\2"),
    (r"(blocks\.\d+\.mlp)\.w2\.(.*)", r"\1.fc1_x.\2"),
    (r"(blocks\.\d+\.mlp)\.w3\.(.*)", r"\1.fc2.\2"),
    (r"(blocks\.\d+\.mlp)\.fc1\.(.*)", r"\1.fc1_x.\2"),
    (r"(blocks\.\d+\.mlp)\.ffn_ln\.(.*)", r"\1.norm.\2"),
    (r"(blocks\.\d+\.attn)\.inner_attn_ln\.(.*)", r"\1.norm.\2"),
)


def load_strictly(vit: TimmModule, found: Found, file: str, model: str) -> None:
    """Fill the model with what was found; it is written to only if every tensor has its place."""
    wanted: dict[str, Tensor] = vit.state_dict()
    tensors = fitted(vit, found, file)
    _check(wanted, tensors, found, file, model)
    if found.quick_gelu and not any(isinstance(part, QuickGELU) for part in vit.modules()):
        raise ValueError(
            f"{file!r} is OpenAI's CLIP, whose models compute GELU as x * sigmoid(1.702 x), but "
            f"{model} does not; "
            "take timm's name with quickgelu in it, such as vit_base_patch16_clip_quickgelu_224"
        )
    broken = [name for name, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(
            f"{len(broken)} tensors in {file!r} hold values that are no numbers (NaN or infinite): "
            f"{some(broken)}; the training that wrote them had diverged, or the file is damaged"
        )
    with torch.no_grad():
        vit.load_state_dict(tensors, strict=True)


def fitted(vit: TimmModule, found: Found, file: str) -> dict[str, Tensor]:
    """The file's tensors under the model's names and in its shapes, as far as that is only a way of
    writing."""
    wanted: dict[str, Tensor] = vit.state_dict()
    tensors = {other_name(name, wanted): value for name, value in found.tensors.items()}
    tensors = fit_positions(fit_projections(tensors, wanted), vit, file, found.layout is JAX)
    own_filter: Any = getattr(sys.modules[type(vit).__module__], "checkpoint_filter_fn", None)
    tables = [
        name for name, value in tensors.items() if "bias_table" in name and _differs(name, value, wanted)
    ]
    if tables and own_filter is not None:  # BEiT's relative positions at another image size
        tensors = own_filter(tensors, vit)
    return fit_vectors(tensors, wanted)


def other_name(name: str, wanted: Mapping[str, Tensor]) -> str:
    """The name that the model's own class has for a layer, where it has one."""
    if name in wanted:
        return name
    for rule, new in OTHER_NAMES:
        if re.fullmatch(rule, name) and (other := re.sub(rule, new, name)) in wanted:
            return other
    return name


def _differs(name: str, value: Tensor, wanted: dict[str, Tensor]) -> bool:
    return name in wanted and wanted[name].shape != value.shape


def _check(
    wanted: dict[str, Tensor], tensors: dict[str, Tensor], found: Found, file: str, model: str
) -> None:
    missing = [name for name in wanted if name not in tensors]
    extra = [name for name in tensors if name not in wanted] + list(found.left_over)
    shapes = [name for name, value in tensors.items() if _differs(name, value, wanted)]
    whole = [
        name
        for name, value in tensors.items()
        if not value.dtype.is_floating_point and name in wanted and wanted[name].dtype.is_floating_point
    ]
    if not (missing or extra or shapes or whole):
        return
    wrong = []
    if missing:
        wrong.append(f"{len(missing)} of the model's {len(wanted)} tensors are missing ({some(missing)})")
    if shapes:
        name = shapes[0]
        both = f"{tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}"
        wrong.append(f"{len(shapes)} have another shape ({name}: {both})")
    if extra:
        wrong.append(f"{len(extra)} of the file's have no place in the model ({some(extra)})")
    if whole:
        wrong.append(f"{len(whole)} are whole numbers, as quantised weights are ({some(whole)})")
    raise ValueError(
        f"the weights in {file!r} do not fit {model}: the file looks like {looks_like(found)}, the "
        "model is a "
        f"{shape_words(wanted)}; {', '.join(wrong)}"
    )


def some(names: Iterable[str]) -> str:
    """The first two names, and that there are more."""
    listed = list(names)
    return ", ".join(listed[:2]) + (" ..." if len(listed) > 2 else "")
