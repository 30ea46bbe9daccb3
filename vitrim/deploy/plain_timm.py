"""A plain timm checkpoint: timm's own names, which timm loads strictly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitrim.backbones.structure import build, describe
from vitrim.backbones.support import TimmModule
from vitrim.deploy.plain_weights import Written, strictly, write_tensors
from vitrim.network.copying import copied
from vitrim.network.model import StagedViT


def write(plain: TimmModule, staged: StagedViT, about: dict[str, Any], part: Path) -> Written:
    """Write the file, and load it with timm into a model that timm made; into an empty copy of the module
    where the user made it, in a way that its parts do not tell."""
    from timm.models import load_checkpoint

    architecture = describe(plain)
    fresh: nn.Module
    if "arguments" in architecture:
        fresh, how = build(architecture), _how(architecture)
    else:
        _refuse_gained(plain, staged, about["backbone"])
        fresh = _emptied(plain)
        how = "timm.models.load_checkpoint(MODULE, FILE), on a module made like the one that was composed"
    write_tensors(dict(plain.state_dict()), {**about, "architecture": architecture}, part)
    with strictly("timm", about["backbone"]):
        load_checkpoint(fresh, str(part), strict=True)
    return Written(fresh.eval(), how)


def _refuse_gained(plain: TimmModule, staged: StagedViT, backbone: str) -> None:
    """A shift folded into a layer without a bias gives it one, and then no model of timm's may load it."""
    own = {name.removeprefix("vit.") for name in staged.base_names}
    if gained := sorted(set(plain.state_dict()) - own):
        raise ValueError(
            f"timm makes no {backbone} that has {gained[0]}, which folding added, so nobody could load the "
            "file; keep the composed model with vitrim.save, or use --to onnx"
        )
    if staged.origin.kind != "module":
        raise ValueError(
            f"timm makes no {backbone} with these parts, so nobody could load the file; keep the composed "
            "model with vitrim.save, or use --to onnx"
        )


@torch.no_grad()
def _emptied(plain: TimmModule) -> nn.Module:
    fresh: nn.Module = copied(plain)
    for value in fresh.parameters():
        value.zero_()
    return fresh


def _how(architecture: dict[str, Any]) -> str:
    arguments = ", ".join(f"{name}={_value(value)}" for name, value in architecture["arguments"].items())
    if "name" in architecture:
        return f"timm.create_model({architecture['name']!r}, {arguments}, checkpoint_path=FILE)"
    return f"timm's {architecture['class']} of {json.dumps(architecture['arguments'])}"


def _value(value: Any) -> str:
    return repr(tuple(value) if isinstance(value, list) else value)
