"""A saved model with only a part of its composition, to see what each part does: the backbone as it was
before training, the reducers alone on it, the tuners alone.
"""

from __future__ import annotations

from pathlib import Path

import torch

from vitrim.backbones.opening import Origin
from vitrim.backbones.preprocess import Preprocess
from vitrim.checks import check_one_of
from vitrim.compose import assemble
from vitrim.files.budget import fitting_memory, fitting_stored, values_in
from vitrim.files.its_backbone import check_digest, find_backbone
from vitrim.files.saving import budget, read, saved_tensors
from vitrim.methods.first_blocks import cut_as_said
from vitrim.methods.notation import parse_method
from vitrim.methods.quantising.packing import unpack_tensors
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.video.model import VideoModel
from vitrim.video.settings import as_video

PARTS = ("backbone", "reducers", "tuners")


def load_part(path: str | Path, part: str) -> StagedViT | None:
    """The saved model with a part of its methods, in evaluation mode, on the backbone it was trained on.

    Args:
        path: a file that `save` wrote.
        part: "backbone" (no methods, the classifier it came with), "reducers" (those, untrained weights
            elsewhere) or "tuners" (everything but reducers, as trained).

    Returns:
        None where there is no such model: the file holds all weights of the backbone as they became in
        training, or its reducers have weights of their own, which fit only the tuned model, or it has none.
    """
    check_one_of("load_part", "part", part, PARTS)
    about, tensors = read(path)
    if about["backbone"]["included"]:
        return None
    origin = Origin.from_json(about["backbone"])
    with budget(fitting_memory(), path):
        vit, found = find_backbone(origin, None, None, False)
    methods = tuple(parse_method(text) for text in about["methods"])
    cut_as_said(vit, methods)
    check_digest(vit, about, tensors, Path(path), {})
    chosen = _chosen(methods, part)
    if part != "backbone" and not chosen:
        return None
    most = fitting_stored(values_in([*tensors.values(), *vit.parameters()]))
    with budget(most, path):
        classes = about["num_classes"] if part == "tuners" else None
        model = assemble(vit, found, chosen, classes, as_video(about.get("video")))
    model.preprocess = Preprocess.from_json(about["preprocess"])
    wanted = saved_tensors(model)
    if part == "tuners":
        trained = unpack_tensors(model, {name: tensors[name] for name in tensors if name in wanted})
        if set(wanted) - set(trained):
            return None
        with torch.no_grad():
            for name, value in wanted.items():
                value.copy_(trained[name])
    elif model.awaits is not None or any(name not in model.base_names | _of_frames(model) for name in wanted):
        return None  # reducers that learned
    return model.eval()


def _of_frames(model: StagedViT) -> frozenset[str]:
    """What pools the frames of clips: behind all that is looked at here, so it may stay at its start."""
    parts = model.over_time() if isinstance(model, VideoModel) else ()
    inside = {id(weight) for part in parts for weight in part.parameters()}
    return frozenset(name for name, weight in model.named_parameters() if id(weight) in inside)


def _chosen(methods: tuple[Method, ...], part: str) -> tuple[Method, ...]:
    if part == "backbone":
        return ()
    return tuple(method for method in methods if method.reduces == (part == "reducers"))
