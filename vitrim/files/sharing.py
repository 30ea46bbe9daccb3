"""Many saved models on one backbone: each gets modules of its own, and all read the same frozen weights.

A twin of a backbone has its own module tree, so that methods can exchange layers in it, but the storage of
its weights is the original's. What a file trained in place (biases, norms, everything) is copied first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitrim.backbones.geometry import image_size, set_image_size
from vitrim.backbones.opening import Digests, Origin, digest, structure_of
from vitrim.backbones.preprocess import Preprocess
from vitrim.backbones.structure import structure_digest
from vitrim.backbones.support import TimmModule
from vitrim.compose import assemble
from vitrim.files.budget import fitting_memory, fitting_stored, values_in
from vitrim.files.its_backbone import check_digest, find_backbone
from vitrim.files.saving import budget, changed_names, fill_from_file, read, saved_tensors, task_of
from vitrim.methods.notation import parse_method
from vitrim.network.copying import copied
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.video.settings import as_video

HEADS = ("head", "head_dist")  # timm's names


def twin_of(vit: TimmModule) -> TimmModule:
    """The same modules anew around the same weights in memory, all of them frozen."""
    memo: dict[int, Any] = {}
    for value in held_tensors(vit):
        shared = value.detach()
        memo[id(value)] = nn.Parameter(shared, False) if isinstance(value, nn.Parameter) else shared
    return copied(vit, memo)


def held_tensors(module: nn.Module) -> list[Tensor]:
    """Every tensor that a module and its parts hold: weights, buffers, tables, what was unpacked for use."""
    return [value for part in module.modules() for value in _tensors_in(vars(part))]


def storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Where tensors lie in memory, and how many bytes are there."""
    held = (value.untyped_storage() for value in tensors)
    return {storage.data_ptr(): storage.nbytes() for storage in held if storage.nbytes()}


def bare_backbone_of(file: Path) -> tuple[nn.Module, Origin]:
    """The backbone that a saved model was trained on, without what was trained."""
    about, tensors = read(file)
    origin = Origin.from_json(about["backbone"])
    _refuse_merged(origin, file)
    included = about["backbone"]["included"]
    most = fitting_stored(values_in(tensors.values())) if included else fitting_memory()
    with budget(most, file):
        vit, found = find_backbone(origin, None, None, included)
    if included:
        own = {name: value for name, value in vit.state_dict().items() if name.split(".")[0] not in HEADS}
        kept = {name: tensors[f"vit.{name}"] for name in own if f"vit.{name}" in tensors}
        fitting = {name: value for name, value in kept.items() if value.shape == own[name].shape}
        vit.load_state_dict(fitting, strict=False)
    return vit, found


def base_of(vit: nn.Module, origin: Origin, device: str | torch.device = "cpu") -> StagedViT:
    """A model without methods to load others onto; its weights are read here, so that no other reads them."""
    base = assemble(vit, origin, (), None).requires_grad_(False).to(device).eval()
    digest(base.vit, (), base.digests)
    return base


def load_onto(
    base: StagedViT,
    file: Path,
    changed: Callable[[tuple[Method, ...]], tuple[Method, ...]] | None = None,
) -> StagedViT:
    """The saved model in evaluation mode, on the memory of the bare model `base`, which stays as it is.

    `changed` may give some of its methods other settings, or leave some out; what the file holds for the
    others is then passed over.

    Raises:
        ValueError, FileNotFoundError: no such file, not a vitrim file, another backbone or other weights.
    """
    about, tensors = read(file)
    origin = Origin.from_json(about["backbone"])
    task, scale = task_of(about, file)
    methods = tuple(parse_method(text) for text in about["methods"])
    if changed is not None:
        methods = changed(methods)
    _refuse_merged(origin, file)
    vit = _fitting_twin(base, origin, file)
    with torch.random.fork_rng(devices=[]):  # random starts are overwritten at once
        most = fitting_stored(values_in([*tensors.values(), *vit.parameters()]))
        with budget(most, file):
            model = assemble(vit, base.origin, methods, about["num_classes"], as_video(about.get("video")))
    model.digests = _known_digests(base, model)
    _check_weights(model, base, about, file)
    _own_what_trains(model, base)
    if about["backbone"]["included"] or changed is not None:
        tensors = {name: tensors[name] for name in saved_tensors(model) if name in tensors}
    fill_from_file(model, tensors, file, whole=False)
    model.task, model.scale = task, scale
    model.classes = None if about["classes"] is None else tuple(about["classes"])
    model.preprocess = Preprocess.from_json(about["preprocess"])
    return model.to(next(base.parameters()).device).eval()


def _fitting_twin(base: StagedViT, origin: Origin, file: Path) -> TimmModule:
    """A twin for the images of the file, refused where the file's backbone is built otherwise."""
    vit = twin_of(base.vit)
    with torch.no_grad():
        if image_size(vit) != origin.image_size:
            set_image_size(vit, origin.image_size)
            vit.requires_grad_(False)
    known = structure_of(origin)
    if known is not None and known != structure_digest(vit):
        raise ValueError(
            f"{file.name!r} was trained on {origin.name}, which is built otherwise than the backbone here, "
            f"{base.origin.name}; it needs a pool of its own backbone"
        )
    return vit


def _check_weights(model: StagedViT, base: StagedViT, about: dict[str, Any], file: Path) -> None:
    """Refuse a file that was trained on other weights; resized position embeddings may be why."""
    try:
        check_digest(model.vit, about, changed_names(model), file, model.digests)
    except ValueError as error:
        size = image_size(model.vit)
        if size == image_size(base.vit):
            raise
        raise ValueError(
            f"{file.name!r} is for images of {size[0]}x{size[1]} pixels, and this backbone resized to them "
            "does not have the weights it was trained on; it needs a pool of its own"
        ) from error


def _known_digests(base: StagedViT, model: StagedViT) -> Digests:
    """What is known of the base's weights, for those of the model that are the same memory."""
    known: Digests = {}
    originals = base.vit.state_dict(keep_vars=True)
    for name, value in model.vit.state_dict(keep_vars=True).items():
        original, entry = originals.get(name), base.digests.get(name)
        if original is None or entry is None or entry[:2] != (id(original), original._version):
            continue
        if value.data_ptr() == original.data_ptr() and value.shape == original.shape:
            known[name] = (id(value), value._version, entry[2])
    return known


def _own_what_trains(model: StagedViT, base: StagedViT) -> None:
    """Memory of its own for every weight that the file will write to."""
    shared = storages(held_tensors(base.vit))
    for name, value in saved_tensors(model).items():
        if value.untyped_storage().data_ptr() in shared:
            weight = model.get_parameter(name)
            weight.data = weight.data.clone()


def _refuse_merged(origin: Origin, file: Path) -> None:
    if origin.kind == "merged":
        raise ValueError(
            f"{file.name!r} holds a merged model, whose backbone is its own and shared by no other; give "
            "the file it was merged from"
        )


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors_in(each)
