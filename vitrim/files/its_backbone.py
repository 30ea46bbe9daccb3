"""The backbone that a saved model was trained on: found again, and refused where it is another."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import nn

from vitrim.backbones.names import BUNDLED
from vitrim.backbones.opening import Digests, Origin, adapted, digest, open_backbone, open_described
from vitrim.backbones.patches import PROJECTION
from vitrim.backbones.structure import structure_digest
from vitrim.backbones.support import TimmModule


def find_backbone(
    origin: Origin, backbone: str | nn.Module | None, weights: str | Path | None, included: bool
) -> tuple[nn.Module, Origin]:
    """The backbone a file was trained on, or the one given instead; with random weights where the file holds
    them."""
    found = _find(origin, backbone, weights, included)
    return adapted(*found, origin.in_chans, origin.patch_size, origin.image_size)


def _find(
    origin: Origin, backbone: str | nn.Module | None, weights: str | Path | None, included: bool
) -> tuple[nn.Module, Origin]:
    if backbone is not None:
        return open_backbone(backbone, weights=weights, image_size=origin.opened_at)
    if weights is not None:
        return _from_weights(origin, weights)
    if origin.kind == "module" and not included:
        raise ValueError(
            f"the file holds only what was trained, on a {origin.name} that was passed as a module; "
            "give it as backbone=MODULE, or save with include_backbone=True"
        )
    if origin.kind == "file" and not included:
        # A path out of a file: read without unpickling, and believed only where check_digest agrees.
        if not Path(origin.weights or "").is_file():
            raise FileNotFoundError(
                f"the backbone's weights {origin.weights!r} are gone; give weights=FILE for {origin.name}"
            )
        return _from_weights(origin, origin.weights)
    if origin.architecture is not None:
        return open_described(origin.architecture, None, origin.opened_at, origin.name)
    if origin.name == BUNDLED:
        return open_backbone(BUNDLED, image_size=origin.opened_at)
    return open_backbone(
        origin.name, origin.kind == "pretrained" and not included, None, origin.opened_at, origin.seed
    )


def _from_weights(origin: Origin, weights: str | Path | None) -> tuple[nn.Module, Origin]:
    if origin.architecture is not None:
        return open_described(origin.architecture, weights, origin.opened_at, origin.name)
    return open_backbone(origin.name, weights=weights, image_size=origin.opened_at)


def check_structure(vit: TimmModule, origin: Origin, path: Path) -> None:
    """Refuse a backbone that is built otherwise than the saved one: the same weights compute something else
    in it."""
    if origin.structure is not None and structure_digest(vit) != origin.structure:
        raise ValueError(
            f"{path.name!r} was made on a {origin.name} of another structure than the backbone given "
            "(pooling, activation, normalisation, registers or the like); give one made with the same "
            "arguments"
        )


def check_digest(
    vit: TimmModule,
    about: dict[str, Any],
    leaving_out: Collection[str],
    path: Path,
    known: Digests,
) -> None:
    """Refuse a backbone whose weights are not those of the file; names in the file are left out."""
    left_out = {name.removeprefix("vit.") for name in leaving_out}
    if about["backbone"].get("patch_size"):
        left_out.add(PROJECTION)  # a pseudo-inverse, whose last bits differ between machines
    if digest(vit, left_out, known) != about["backbone"]["digest"]:
        raise ValueError(
            f"{path.name!r} was trained on other weights than these (a {about['backbone']['name']}, "
            f"{about['backbone']['kind']}, digest {about['backbone']['digest'][:12]}); "
            "give the same backbone or weights=FILE"
        )
