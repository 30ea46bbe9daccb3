"""The ways back: a composition of which nothing stays but weights, as a checkpoint of timm, torchvision or
transformers. It gets its name only after that library's own model was filled from it and run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitrim.backbones.support import TimmModule
from vitrim.deploy import plain_timm, plain_torchvision, plain_transformers
from vitrim.deploy.arriving import (
    Exported,
    about_model,
    check_folder,
    megabytes,
    name_it,
    refuse_differing,
    unnamed,
)
from vitrim.deploy.check import PICTURES, compare
from vitrim.deploy.pictures import HELD_OUT, data_for, some
from vitrim.deploy.plain_weights import Written
from vitrim.files.plain_timm import to_timm
from vitrim.files.saving import is_saved_model
from vitrim.network.copying import copied
from vitrim.network.model import StagedViT
from vitrim.runs.opening import open_model
from vitrim.video.refusing import refuse_clips

LIBRARIES: dict[str, Callable[[TimmModule, StagedViT, dict[str, Any], Path], Written]] = {
    "timm": plain_timm.write,
    "torchvision": plain_torchvision.write,
    "transformers": plain_transformers.write,
}
EXACT = 2e-6  # of the largest output, in float64: another eps of the norms differs by more
SEEN = 2  # pictures that this is looked at with


def export_plain(
    model: StagedViT | str | Path, target: Path, to: str, data: str | None, root: str | Path | None
) -> Exported:
    """See `vitrim.export`."""
    _check_name(target, to)
    staged = model if isinstance(model, StagedViT) else open_model(model)
    refuse_clips(staged, "export")
    whole = copied(staged).cpu().float().eval()
    plain = to_timm(whole)
    source = data_for(model, data, root)
    images = some(source, staged.preprocess, PICTURES, HELD_OUT)
    about = {"to": to, **about_model(staged, to)}
    with unnamed(target) as part:
        written = LIBRARIES[to](plain, staged, about, part)
        _refuse_others(plain, written.model, images[:SEEN], to, about["backbone"])
        pictures, classes = f"pictures of {source.spec}", staged.num_classes > 0
        agreement = compare(whole, written.model, images, pictures, "fp32", classes)
        refuse_differing(target, agreement)
        about["open_with"] = written.how.replace("FILE", repr(target.name))
        done = Exported(target, agreement, about, megabytes(part))
        name_it(part, done)
    return done


def _check_name(target: Path, to: str) -> None:
    check_folder(target)
    if to == "transformers":
        if target.exists():
            raise ValueError(f"{target} is there already; transformers gets a new folder: give another name")
    elif target.suffix != ".safetensors":
        raise ValueError(f"--to {to} writes a file that ends in .safetensors, got {target.name!r}")
    elif target.name == "model.safetensors":
        raise ValueError(
            f"{target.name} is what the composition itself is called in a run; call the plain weights "
            f"otherwise, such as {to}.safetensors"
        )
    elif target.is_file() and is_saved_model(target):
        raise FileExistsError(
            f"{target} is a composition that vitrim saved, which plain weights do not replace; give "
            "another name"
        )


@torch.inference_mode()
def _refuse_others(plain: TimmModule, theirs: nn.Module, images: Tensor, to: str, backbone: str) -> None:
    """Refuse a model that computes something else with the same weights, seen beyond float32's rounding."""
    doubled = images.double()
    ours, given = plain.double()(doubled), theirs.double()(doubled)
    plain.float()
    theirs.float()
    if ours.shape != given.shape:
        raise ValueError(
            f"{to} has no form for this {backbone}: it gives {tuple(given.shape)} instead of "
            f"{tuple(ours.shape)}"
        )
    difference, largest = (ours - given).abs().max().item(), ours.abs().max().item()
    if not difference <= EXACT * largest:
        raise ValueError(
            f"{to} has no form for this {backbone}: its own model gives other outputs with these weights (by "
            f"{difference:.1e} of {largest:.1e}); this one pools by {plain.global_pool!r} and has norms of "
            f"eps {next(part.eps for part in plain.blocks.modules() if hasattr(part, 'eps')):g}"
        )
