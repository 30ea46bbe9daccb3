"""Where a backbone comes from, written down well enough to find it again: timm's names, local files, the
bundled one, modules."""

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitrim.backbones.channels import set_input_channels
from vitrim.backbones.foreign import check_is_timm
from vitrim.backbones.geometry import check_holds_a_patch, input_channels, set_image_size
from vitrim.backbones.geometry import image_size as _size_of
from vitrim.backbones.names import BUNDLED, CHECKPOINT_ENDINGS, check_name, name_in_file, structure_named
from vitrim.backbones.patches import pair_of, patch_size, set_patch_size
from vitrim.backbones.repositories import find_repository, is_repository
from vitrim.backbones.shapes import shapes_only
from vitrim.backbones.structure import Architecture, build, describe, structure_digest
from vitrim.backbones.support import TimmModule, check_support
from vitrim.backbones.weights.describe import classes_in
from vitrim.backbones.weights.reading import read_weights
from vitrim.backbones.weights.strict import load_strictly
from vitrim.backbones.weights.wrappers import find_backbone


@dataclass(frozen=True)
class Origin:
    """How to make the same backbone again.

    Attributes:
        name: timm's model name, the bundled name, or a module's class name.
        kind: "pretrained" (downloaded by timm), "file" (local weights), "bundled", "random" (from a seed),
            "module" (given), "described" (built from a saved description of one) or "merged".
        image_size: (height, width) it was built for.
        weights: the local file, for kind "file". It is followed from a saved model only where its
            weights have the digest that was saved with it.
        seed: of the random start, for kind "random".
        architecture: how to build it where the name does not say that; see `vitrim.backbones.structure`.
        structure: digest of its parts, for a module that has to be given again.
        in_chans: channels of its images, where its projection was adapted to other than it came with.
        patch_size: (height, width) of its patches, where its projection was resized to other than it came
            with.
    """

    name: str
    kind: str
    image_size: tuple[int, int]
    weights: str | None = None
    seed: int | None = None
    architecture: dict[str, Any] | None = None
    structure: str | None = None
    in_chans: int | None = None
    patch_size: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)

    @property
    def opened_at(self) -> tuple[int, int] | None:
        """The image size it is opened at: with patches of another size its own, so that places are resized
        once.
        """
        return self.image_size if self.patch_size is None else None

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Origin":
        """The inverse of `to_json`; other keys are left alone."""
        known = {name: values[name] for name in Origin.__dataclass_fields__ if name in values}
        patch = known.get("patch_size")
        known["patch_size"] = None if patch is None else tuple(patch)
        return Origin(**{**known, "image_size": tuple(values["image_size"])})


def open_backbone(
    backbone: str | nn.Module,
    pretrained: bool = False,
    weights: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    seed: int | None = None,
) -> tuple[nn.Module, Origin]:
    """A timm model and its origin. Without `pretrained` or `weights` a named model starts from a recorded
    random seed.

    Raises ValueError for unknown names and unusable weights, FileNotFoundError for missing files.
    """
    size = None if image_size is None else pair_of("image_size", image_size)
    if isinstance(backbone, nn.Module):
        return _given(backbone, pretrained or weights is not None, size)
    if is_repository(backbone):
        if weights is not None:
            raise ValueError(f"{backbone!r} comes with its weights; leave out weights")
        folder = find_repository(backbone)
        return open_described(folder.architecture, folder.weights, size, folder.name, folder.images)
    if weights is None and backbone.endswith(CHECKPOINT_ENDINGS):
        backbone, weights = name_in_file(backbone), backbone
    if backbone == BUNDLED:
        if pretrained or weights is not None:
            raise ValueError(f"{BUNDLED} comes with its weights; leave out pretrained and weights")
        vit = _bundled(size)
        return vit, Origin(BUNDLED, "bundled", _size_of(vit))
    check_name(backbone)
    if weights is not None:
        if pretrained:
            raise ValueError("pretrained downloads weights and weights names a file: give one of the two")
        vit = fill_from_file(
            Path(weights), backbone, lambda classes: _create(backbone, size, num_classes=classes)
        )
        return vit, Origin(backbone, "file", _size_of(vit), weights=str(Path(weights).resolve()))
    if pretrained:
        vit = _downloaded(backbone, size)
        return vit, Origin(backbone, "pretrained", _size_of(vit))
    seed = int(torch.randint(2**31, (), device="cpu")) if seed is None else seed
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would set those of GPUs too, for good
        vit = _create(backbone, size)
    return vit, Origin(backbone, "random", _size_of(vit), seed=seed)


def adapted(
    vit: nn.Module,
    origin: Origin,
    in_chans: int | None,
    patch: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[nn.Module, Origin]:
    """The same backbone for images of so many channels, and for patches of that size in images of `size`; as
    it is where nothing is asked for.
    """
    found = origin
    if in_chans is not None and in_chans != input_channels(vit):
        set_input_channels(vit, in_chans)
        found = replace(found, in_chans=in_chans)
    if patch is not None and patch != patch_size(vit):
        set_patch_size(vit, patch, size)
        found = replace(found, patch_size=patch, image_size=_size_of(vit))
    elif patch is not None and size is not None and size != _size_of(vit):
        set_image_size(vit, size)
        found = replace(found, patch_size=patch, image_size=size)
    return vit, found if found is origin else replace(found, structure=structure_digest(vit))


def open_described(
    architecture: Architecture,
    weights: str | Path | None,
    size: tuple[int, int] | None,
    name: str,
    images: dict[str, Any] | None = None,
) -> tuple[nn.Module, Origin]:
    """A backbone of a described structure, with a file's weights or, for a model file that holds all of them,
    without."""
    resized = {} if size is None else {"img_size": size}
    if weights is None:
        vit: TimmModule = build(architecture, **resized)
        check_support(vit)
        known = structure_digest(vit)
        return vit, Origin(name, "described", _size_of(vit), architecture=architecture, structure=known)
    vit = fill_from_file(
        Path(weights), name, lambda classes: build(architecture, **resized, num_classes=classes)
    )
    check_support(vit)
    vit.pretrained_cfg = {**dict(getattr(vit, "pretrained_cfg", None) or {}), **(images or {})}
    place = str(Path(weights).resolve())
    return vit, Origin(name, "file", _size_of(vit), weights=place, architecture=architecture)


def _given(vit: TimmModule, also_weights: bool, size: tuple[int, int] | None) -> tuple[nn.Module, Origin]:
    if also_weights:
        raise ValueError("a module brings its own weights; pretrained and weights go with a model name")
    check_is_timm(vit)
    check_support(vit)
    if size is not None and size != _size_of(vit):
        set_image_size(vit, size)
    name = (getattr(vit, "pretrained_cfg", None) or {}).get("architecture") or type(vit).__name__
    architecture, known = describe(vit), structure_digest(vit)
    return vit, Origin(name, "module", _size_of(vit), architecture=architecture, structure=known)


Digests = dict[str, tuple[int, int, bytes]]  # by name: identity and version of a weight, and its SHA-256


def digest(vit: TimmModule, leaving_out: Collection[str] = (), known: Digests | None = None) -> str:
    """SHA-256 over names, shapes and float32 values of a backbone's weights, without its head and the names
    left out. With `known`, weights that were not written to since are not read again."""
    known = {} if known is None else known
    running = hashlib.sha256()
    for name, value in sorted(vit.state_dict(keep_vars=True).items()):
        if name.split(".")[0] in ("head", "head_dist") or name in leaving_out:
            continue
        if known.get(name, ())[:2] != (id(value), value._version):
            content = value.detach().to("cpu", torch.float32).contiguous().numpy().data
            known[name] = (id(value), value._version, hashlib.sha256(content).digest())
        running.update(f"{name} {tuple(value.shape)}".encode() + known[name][2])
    return running.hexdigest()


def bundled_file() -> Path:
    """The bundled weights."""
    return Path(str(files("vitrim") / "assets" / f"{BUNDLED}.safetensors"))


def structure_of(origin: Origin) -> str | None:
    """The digest of a backbone's parts, from what is written down about it; None where that says too
    little."""
    if origin.structure is not None:
        return origin.structure
    with shapes_only():
        if origin.architecture is not None:
            known = "arguments" in origin.architecture
            return structure_digest(build(origin.architecture)) if known else None
        vit = _bundled(None) if origin.name == BUNDLED else structure_named(origin.name)
        return structure_digest(vit)


def _create(name: str, size: tuple[int, int] | None, **options: Any) -> nn.Module:
    import timm

    if size is not None:
        options["img_size"] = size
    vit = timm.create_model(name, **options)
    if size is not None:
        check_holds_a_patch(vit, size)
    if size is not None and _size_of(vit) != size:  # NaFlexViT takes any size and notes none
        set_image_size(vit, size)
    return vit


def _downloaded(name: str, size: tuple[int, int] | None) -> nn.Module:
    try:
        return _create(name, size, pretrained=True)
    except Exception as error:  # timm and its hub client raise a dozen kinds when offline
        raise ValueError(
            f"could not fetch pretrained weights of {name}: {_first_line(error)}; "
            "download them and give weights=FILE"
        ) from error


def fill_from_file(file: Path, name: str, make: Callable[[int], TimmModule]) -> TimmModule:
    """A model made for as many classes as the file's own classifier has, with all of the file's weights."""
    found = find_backbone(read_weights(file), file.name)
    vit = make(classes_in(found.tensors))
    load_strictly(vit, found, file.name, name)
    if found.layout.mean_std is not None:
        mean, std = found.layout.mean_std
        vit.pretrained_cfg = {**dict(getattr(vit, "pretrained_cfg", None) or {}), "mean": mean, "std": std}
    return vit


def _bundled(size: tuple[int, int] | None) -> nn.Module:
    from safetensors import safe_open
    from safetensors.torch import load_file
    from timm.models.vision_transformer import VisionTransformer

    with safe_open(bundled_file(), framework="pt") as opened:
        about = opened.metadata()
    vit = VisionTransformer(**{**json.loads(about["architecture"]), "num_classes": 0})
    if not vit.patch_embed.proj.weight.is_meta:  # on the meta device only the structure is asked for
        vit.load_state_dict({name: value.float() for name, value in load_file(bundled_file()).items()})
    if size is not None:
        set_image_size(vit, size)
    return vit


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
