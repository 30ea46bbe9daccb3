"""One safetensors file holds all that is needed to predict: trained weights, head, methods, the backbone's
name and digest, classes, image size, mean and std. `load` rebuilds the model without outside knowledge, or
says in a sentence what is missing.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from vitrim.backbones.bridge import call_biased_qkv
from vitrim.backbones.opening import Digests, Origin, adapted, digest, open_backbone
from vitrim.backbones.patches import PROJECTION
from vitrim.backbones.preprocess import Preprocess
from vitrim.backbones.rollback import as_before_if_refused
from vitrim.backbones.tuned_linear import frozen
from vitrim.compose import assemble
from vitrim.files.about import About, check_head
from vitrim.files.budget import Budget, fitting_memory, fitting_stored, values_in
from vitrim.files.its_backbone import check_digest, check_structure, find_backbone
from vitrim.methods.first_blocks import cut_as_said
from vitrim.methods.notation import parse_method
from vitrim.methods.plugins import check_known, plugins_of
from vitrim.methods.quantising.packing import pack_tensors, unpack_tensors
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.network.resizing import resize_images
from vitrim.network.target_scale import TASKS, TargetScale
from vitrim.reading import parse_json
from vitrim.video.model import VideoModel
from vitrim.video.settings import as_video
from vitrim.writing import write_whole

FORMAT = About.FORMAT
PROGRAMS = (".onnx", ".pt2")  # how exported files end
SEGMENT = "segment"  # the task of files of `vitrim.dense`


class Trainable(Protocol):
    """What a checkpoint is taken of: a `StagedViT`, or a model around one."""

    base_names: frozenset[str]

    @property
    def methods(self) -> tuple[Method, ...]: ...

    def trained(self) -> dict[str, nn.Parameter]: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


def save(
    model: StagedViT,
    path: str | Path,
    classes: Sequence[str] | None = None,
    include_backbone: bool | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write what trains, and how to rebuild the rest, to one safetensors file; the file appears whole or not
    at all.

    Args:
        path: the file to write.
        classes: names of the classes, if `model.classes` is not set.
        include_backbone: also write the frozen weights. None does so only where they could not be found
            again: a named model whose random start was changed afterwards, or a merged model. A module is
            left out then, and has to be given again.
        extra: further JSON values to keep under "extra".

    Raises:
        ValueError: if the number of class names is not the number of outputs, or the backbone was a
            module that could not be built again from the file.
        OSError: if the file cannot be written, saying why; an older file under that name stays as it was.
    """
    about, tensors = described(model, classes, include_backbone, extra)
    write_described(path, about, tensors)


def write_described(path: str | Path, about: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a file of what `described` gives; it appears whole or not at all."""
    values = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(Path(path), to_bytes(values, metadata={"vitrim": json.dumps(about)}))


def described(
    model: StagedViT,
    classes: Sequence[str] | None = None,
    include_backbone: bool | None = None,
    extra: dict[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a saved file says about a model, and its tensors; the arguments are those of `save`."""
    names = tuple(classes) if classes is not None else model.classes
    if names is not None and len(names) != model.num_classes:
        raise ValueError(f"{len(names)} class names for a model with {model.num_classes} outputs")
    whole = _cannot_be_found_again(model) if include_backbone is None else include_backbone
    if whole and not _can_be_built(model.origin):
        raise ValueError(
            f"the backbone is a {model.origin.name} whose structure vitrim cannot build again, so a "
            "file with all "
            "its weights could not be opened; save with include_backbone=False and give load(..., "
            "backbone=MODULE), or export the model"
        )
    about = {
        "format": FORMAT,
        "methods": [repr(method) for method in model.methods],
        "plugins": plugins_of(model.methods),
        "backbone": {
            **model.origin.to_json(),
            "digest": digest(model.vit, changed_names(model), model.digests),
            "included": whole,
        },
        "num_classes": model.num_classes,
        "classes": names,
        "preprocess": model.preprocess.to_json(),
        **({} if model.task == "classify" else {"task": task_record(model)}),
        **({"video": repr(model.video)} if isinstance(model, VideoModel) else {}),
        "extra": extra or {},
    }
    return about, pack_tensors(model, model.state_dict() if whole else saved_tensors(model))


def load(
    path: str | Path,
    backbone: str | nn.Module | None = None,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    image_size: int | tuple[int, int] | None = None,
) -> StagedViT:
    """The model that `save` wrote, in evaluation mode.

    Args:
        path: the file.
        backbone: the backbone to load onto, where the file's own cannot be found: a timm module or a name.
        weights: a local file with the backbone's weights.
        device: where to put it.
        image_size: pixels or (height, width) of the images it shall take, if not of those it was trained on;
            position embeddings are resized as timm does.

    Raises:
        FileNotFoundError, ValueError: no such file, not a vitrim file, another backbone than it was trained
            on.
    """
    about, tensors = read(path)
    task, scale = task_of(about, Path(path))
    model = rebuilt(path, about, tensors, backbone, weights)
    model.task, model.scale = task, scale
    if image_size is not None:
        resize_images(model, image_size)
    return model.to(device).eval()


def rebuilt(
    path: str | Path,
    about: dict[str, Any],
    tensors: dict[str, Tensor],
    backbone: str | nn.Module | None = None,
    weights: str | Path | None = None,
) -> StagedViT:
    """The composed model that a file describes, with its tensors in it."""
    included = about["backbone"]["included"]
    origin = Origin.from_json(about["backbone"])
    digests: Digests = {}
    stored = values_in(tensors.values())
    most = fitting_stored(stored) if included and backbone is weights is None else fitting_memory()
    with as_before_if_refused(backbone):
        with budget(most, path):
            vit, found = find_backbone(origin, backbone, weights, included)
        if backbone is not None:
            check_structure(vit, origin, Path(path))
        methods = tuple(parse_method(text) for text in about["methods"])
        cut_as_said(vit, methods)
        if not included:
            check_digest(vit, about, tensors, Path(path), digests)
        with budget(fitting_stored(stored + values_in(vit.parameters())), path):
            model = assemble(vit, found, methods, about["num_classes"], as_video(about.get("video")))
        model.digests = digests
        fill_from_file(model, tensors, Path(path), whole=included)
        if included:
            digest(model.vit, changed_names(model), digests)  # known from here on, whatever the precision
    model.classes = None if about["classes"] is None else tuple(about["classes"])
    model.preprocess = Preprocess.from_json(about["preprocess"])
    return model


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a saved file says about itself, and its tensors."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}; give the model.safetensors of a run")
    refuse_program(file)
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            about = header.get("vitrim")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118, not a dict
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{str(path)!r} is not a readable safetensors file ({error})") from error
    if "vitrim_retrieval" in header:
        raise ValueError(f"{str(path)!r} is one half of a retrieval run; give the run's folder")
    if about is None:
        raise ValueError(
            f"{str(path)!r} was not written by vitrim; a bare backbone goes to compose(..., weights=FILE)"
        )
    values = parse_json(about, About, repr(str(path)))
    check_head(values, tensors, repr(str(path)))
    check_known(values["methods"], values.get("plugins"), repr(str(path)))
    return values, tensors


def refuse_program(file: Path) -> None:
    """Refuse an exported file where weights are wanted, in words that say what it is for."""
    if file.suffix.lower() in PROGRAMS:
        raise ValueError(
            f"{str(file)!r} is an exported program, which vitrim evaluates, predicts with and inspects, and "
            "nothing else; give the run that it was exported from"
        )


def is_saved_model(path: Path) -> bool:
    """Whether `save` wrote this file, as its header says."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as opened:
            return "vitrim" in (opened.metadata() or {})
    except (SafetensorError, OSError):
        return False


def budget(most: int, path: str | Path) -> Budget:
    """Refuse a description that asks for far more than the file's tensors or the memory."""
    return Budget(
        most,
        f"{str(path)!r} is damaged and cannot be read: it describes a model far larger than its "
        "tensors or than this machine could hold",
    )


def task_record(model: StagedViT) -> dict[str, Any]:
    """What the outputs of a model mean that are no classes."""
    return {"kind": model.task, "scale": None if model.scale is None else model.scale.to_json()}


def task_of(about: dict[str, Any], path: Path) -> tuple[str, TargetScale | None]:
    """The task a file names; one that names none tells classes apart."""
    stored = about.get("task")
    if stored is None:
        return "classify", None
    kind = stored.get("kind") if isinstance(stored, dict) else None
    if kind == SEGMENT:
        raise ValueError(
            f"{path.name!r} tells classes of pixels apart, not of whole pictures; vitrim evaluate and vitrim "
            "predict take it, in Python vitrim.dense.saving.load_dense"
        )
    if kind not in TASKS:
        raise ValueError(
            f"{path.name!r} is for the task {str(kind)[:40]!r}, but this vitrim knows {', '.join(TASKS)} only"
        )
    scale = stored.get("scale")
    if (kind == "regress") != isinstance(scale, dict):
        raise ValueError(f"{path.name!r} is damaged: the scale of its targets does not fit its task {kind}")
    if not isinstance(scale, dict):
        return kind, None
    try:
        return kind, TargetScale.from_json(scale, about["num_classes"])
    except ValueError as error:
        raise ValueError(f"{path.name!r}: {error}") from None


def saved_tensors(model: Trainable) -> dict[str, Tensor]:
    """What trains, and the persistent buffers that methods added: the checkpoint."""
    trained = model.trained()
    frozen = {name for name, _ in model.named_parameters()} - set(trained)
    return {
        name: value
        for name, value in model.state_dict().items()
        if name in trained or name not in model.base_names | frozen
    }


def _cannot_be_found_again(model: StagedViT) -> bool:
    if model.origin.kind != "random":
        return model.origin.kind in ("merged", "described")
    origin = model.origin
    fresh, _ = adapted(
        *open_backbone(origin.name, image_size=origin.opened_at, seed=origin.seed),
        origin.in_chans,
        origin.patch_size,
        origin.image_size,
    )
    cut_as_said(fresh, model.methods)
    changed = changed_names(model)
    return digest(fresh, changed) != digest(model.vit, changed)


def needs_its_backbone(model: StagedViT) -> bool | None:
    """What `include_backbone` has to be for a file that whoever has it can open; None where that is settled.

    A module whose structure cannot be described can only be left out.
    """
    return _can_be_built(model.origin) if model.origin.kind == "module" else None


def _can_be_built(origin: Origin) -> bool:
    """Whether the backbone's structure is known from its name or its description."""
    return origin.architecture is None or "arguments" in origin.architecture


def changed_names(model: StagedViT) -> set[str]:
    """Names inside the backbone that are not its own frozen weights: trained in place, or added by a
    method."""
    own = {name.removeprefix("vit.") for name in model.base_names}
    trained = {name.removeprefix("vit.") for name in model.trained()}
    if model.origin.patch_size is not None:
        trained.add(PROJECTION)  # see check_digest
    return trained | {name for name in model.vit.state_dict() if name not in own}


def fill_from_file(model: StagedViT, tensors: dict[str, Tensor], path: Path, whole: bool) -> None:
    """Put saved tensors into a model of their composition; nothing is written unless all of them fit."""
    if whole:
        _give_biases(model, tensors)
    wanted = model.state_dict() if whole else saved_tensors(model)
    tensors = unpack_tensors(model, tensors)
    missing, unknown = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    if missing or unknown:
        odd = f"lacks {missing[0]}" if missing else f"has {unknown[0]}, which the composition does not"
        raise ValueError(f"{path.name!r} does not fit its own composition: it {odd}")
    for name, value in tensors.items():
        if value.shape != wanted[name].shape:
            shapes = f"{tuple(value.shape)}, the model {tuple(wanted[name].shape)}"
            raise ValueError(f"{path.name!r} does not fit: {name} has shape {shapes}")
    with torch.no_grad():
        for name, value in tensors.items():
            wanted[name].copy_(value)


def _give_biases(model: StagedViT, tensors: dict[str, Tensor]) -> None:
    """Layers whose bias came by merging a shift into them get a place for it."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is None and f"{name}.bias" in tensors:
            module.bias = frozen(module.weight.new_zeros(module.weight.shape[0]))
    call_biased_qkv(model.vit)
