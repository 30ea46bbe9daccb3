"""`swap`: another adapter on the same backbone, in place, without reading the backbone again."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitrim.backbones.preprocess import Preprocess
from vitrim.backbones.tuned_linear import Tuned
from vitrim.compose import assemble
from vitrim.files.budget import fitting_stored, values_in
from vitrim.files.its_backbone import check_digest
from vitrim.files.saving import budget, changed_names, fill_from_file, read, saved_tensors, task_of
from vitrim.methods.first_blocks import FirstBlocks
from vitrim.methods.notation import parse_method
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.video.model import VideoModel
from vitrim.video.settings import Video, as_video

HEADS = ("head", "head_dist")  # timm's names


def swap(model: StagedViT, file: str | Path) -> None:
    """Put the trained part of a saved file, methods and head included, in place of the model's own.

    The backbone's weights stay where they are; they are checked against the file's digest, which is
    computed once and remembered. Swapping back gives the same logits bit for bit. Where methods or classes
    differ, what is plugged in is built anew; weights of the backbone itself that a file trained (BitFit)
    are kept first, so that the next swap can take them back. Optimizers of the model must be made anew.

    Raises:
        FileNotFoundError, ValueError: no such file, not a vitrim file, another backbone, or a model whose own
            backbone weights were trained or merged. The model is then as it was.

    >>> model = load("runs/pets/model.safetensors")
    >>> swap(model, "runs/flowers/model.safetensors")
    """
    about, tensors = read(file)
    methods = tuple(parse_method(text) for text in about["methods"])
    task, scale = task_of(about, Path(file))
    _check_same_depth(model, methods)
    _check_same_frames(model, as_video(about.get("video")), Path(file))
    if model.origin.kind == "merged":
        raise ValueError("a merged model has no part of its own to swap; load the file with vitrim.load")
    if methods == model.methods and about["num_classes"] == model.num_classes:
        _fill_checked(model, about, tensors, Path(file), model)
    else:
        before = _Before(model)
        try:
            _recompose(model, about, tensors, methods, Path(file))
        except BaseException:
            before.restore()
            raise
    model.task, model.scale = task, scale
    model.classes = None if about["classes"] is None else tuple(about["classes"])
    model.preprocess = Preprocess.from_json(about["preprocess"])


def _check_same_depth(model: StagedViT, methods: tuple[Method, ...]) -> None:
    """Refuse a file of another depth: blocks that were taken out of the backbone are not here."""
    ours, theirs = ([m for m in each if isinstance(m, FirstBlocks)] for each in (model.methods, methods))
    if ours != theirs:
        one, other = (repr(each[0]) if each else "all blocks" for each in (ours, theirs))
        raise ValueError(f"the model has {one} and the file {other}; load the file with vitrim.load instead")


def _check_same_frames(model: StagedViT, theirs: Video | None, file: Path) -> None:
    """Refuse an image model's file for a video model, the other way round, and another way to pool frames."""
    ours = model.video if isinstance(model, VideoModel) else None
    if ours != theirs:
        one, other = ("an image model" if each is None else repr(each) for each in (ours, theirs))
        raise ValueError(
            f"the model is {one} and {file.name!r} holds {other}; load the file with vitrim.load instead"
        )


def _fill_checked(
    target: StagedViT, about: dict[str, Any], tensors: dict[str, Tensor], file: Path, model: StagedViT
) -> None:
    """Fill what trains in `target` from the file of the same backbone as `model`'s."""
    check_digest(target.vit, about, changed_names(target), file, model.digests)
    if about["backbone"]["included"]:
        tensors = {name: tensors[name] for name in saved_tensors(target) if name in tensors}
    fill_from_file(target, tensors, file, whole=False)


def _recompose(
    model: StagedViT,
    about: dict[str, Any],
    tensors: dict[str, Tensor],
    methods: tuple[Method, ...],
    file: Path,
) -> None:
    _take_off(model)
    if about["num_classes"] == 0:
        model.vit.reset_classifier(0)
    with torch.random.fork_rng(devices=[]):  # random starts are overwritten at once
        most = fitting_stored(values_in([*tensors.values(), *model.vit.parameters()]))
        with budget(most, file):
            classes, video = about["num_classes"] or None, as_video(about.get("video"))
            other = assemble(model.vit, model.origin, methods, classes, video)
    first_values = {name: value.detach().clone() for name, value in _trained_in_place(other).items()}
    _fill_checked(other, about, tensors, file, model)
    model.take_parts(other)
    model.methods = methods
    model.first_values = first_values
    model.train(model.training)


@torch.no_grad()
def _take_off(model: StagedViT) -> None:
    """Leave the bare backbone with its first values."""
    for name, value in _trained_in_place(model).items():
        if name not in model.first_values:
            raise ValueError(
                f"{', '.join(map(repr, model.methods))} trained the backbone's own weights ({name} among "
                "them), whose first values are not here; load the file with vitrim.load instead"
            )
        value.copy_(model.first_values[name])
    for owner, name, layer in model.own_layers:
        current = getattr(owner, name)
        if current is not layer:
            layer._parameters.update({k: v for k, v in current._parameters.items() if k in layer._parameters})
            setattr(owner, name, layer.train(model.training))
    for name in HEADS:
        head = getattr(model.vit, name, None)
        if isinstance(head, Tuned):
            setattr(model.vit, name, head.merged().train(model.training))


def _trained_in_place(model: StagedViT) -> dict[str, nn.Parameter]:
    """Weights of the backbone itself that train, without its head."""
    heads = tuple(f"vit.{head}." for head in HEADS)
    return {
        name: value
        for name, value in model.trained().items()
        if name in model.base_names and not name.startswith(heads)
    }


class _Before:
    """What recomposing changes before it is known to succeed."""

    def __init__(self, model: StagedViT) -> None:
        self.vit = model.vit
        self.layers = [(owner, name, getattr(owner, name)) for owner, name, _ in model.own_layers]
        self.heads = {name: getattr(model.vit, name) for name in HEADS if hasattr(model.vit, name)}
        self.num_classes = model.num_classes
        self.trains = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        self.values = [(value, value.detach().clone()) for value in _trained_in_place(model).values()]

    @torch.no_grad()
    def restore(self) -> None:
        for owner, name, layer in self.layers:
            setattr(owner, name, layer)
        for name, head in self.heads.items():
            setattr(self.vit, name, head)
        self.vit.num_classes = self.num_classes
        for parameter, trains in self.trains:
            parameter.requires_grad_(trains)
        for value, before in self.values:
            value.copy_(before)
