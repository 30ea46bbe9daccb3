"""`AdapterPool`: many trained models on one backbone in memory, any of them for any request.

Every adapter is a composed model with modules of its own, whose frozen weights are the same memory; what it
trained in place (biases, norms, all of it) is its own. Taking another adapter is looking up a name, and
nothing is ever exchanged in a model that another thread may be running.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vitrim.backbones.opening import Origin, open_backbone
from vitrim.backbones.preprocess import Preprocess
from vitrim.checks import did_you_mean
from vitrim.deploy.grouped import Group, grouped_logits, shared_blocks
from vitrim.files.saving import is_saved_model, refuse_program
from vitrim.files.sharing import bare_backbone_of, base_of, held_tensors, load_onto, storages, twin_of
from vitrim.measuring.devices import pick_device
from vitrim.network.model import StagedViT
from vitrim.runs.opening import model_file_of
from vitrim.video.refusing import refuse_clips


class UnknownAdapterError(ValueError):
    """A name that is not in the pool (any more)."""


@dataclass(frozen=True)
class AdapterDescription:
    """What is known of one adapter.

    Attributes:
        name: in the pool.
        source: the file it was read from.
        task: "classify", "multilabel" or "regress".
        outputs: how many numbers it gives for an image.
        classes: names of its outputs, None where the file has none.
        image_size: (height, width) of the images it takes.
        preprocessing: what has to be done to them before.
        methods: tuners and reducers, as text.
        bytes: memory that this adapter takes and no other shares.
        shared_blocks: how many of the backbone's first blocks it leaves unchanged; None where it changes
            what comes before them.
    """

    name: str
    source: str
    task: str
    outputs: int
    classes: tuple[str, ...] | None
    image_size: tuple[int, int]
    preprocessing: Preprocess
    methods: tuple[str, ...]
    bytes: int
    shared_blocks: int | None


@dataclass(frozen=True)
class _Adapter:
    model: StagedViT
    about: AdapterDescription


class AdapterPool:
    """Adapters by name, on one backbone whose weights are in memory once.

    All methods may be called from any thread at any time. A call that has begun goes on with the adapter it
    began with, also when that is removed meanwhile. Models are in evaluation mode and run without gradients;
    they must not be trained or moved, since others read the same weights.

    Args:
        backbone: a run folder or saved file, whose backbone is taken; or as for `vitrim.compose` a name, a
            checkpoint file or a timm module (its weights are read where they are: leave them unchanged), or
            a composed model without methods.
        pretrained, weights: of a named backbone, as for `vitrim.compose`.
        device: where to compute, as "cpu" or "cuda"; the processor by default.

    >>> pool = AdapterPool("runs/flowers")
    >>> pool.add("flowers", "runs/flowers")
    >>> pool.add("pets", "runs/pets/model.safetensors")
    >>> pool.logits(images, "pets")
    """

    def __init__(
        self,
        backbone: str | Path | nn.Module,
        *,
        pretrained: bool = False,
        weights: str | Path | None = None,
        device: str = "cpu",
    ) -> None:
        vit, origin = _bare(backbone, pretrained, weights)
        self._base = base_of(twin_of(vit), origin, pick_device(device))
        self._own = storages(held_tensors(self._base.vit))
        self._adapters: dict[str, _Adapter] = {}  # replaced as a whole, so that readers need no lock
        self._changing = threading.RLock()  # a finalizer may remove while its own thread adds

    def add(self, name: str, source: str | Path) -> None:
        """Read an adapter from a run folder or a saved file and offer it under a name, after it ran once.

        Raises:
            ValueError, FileNotFoundError: no such file, not a vitrim file, another backbone or other
                weights, or a name that is taken. The pool is then as it was.
        """
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"an adapter needs a name, got {name!r}")
        self._refuse_taken(name)
        file = model_file_of(source)
        model = load_onto(self._base, file)
        refuse_clips(model, "serving")
        preprocess = model.preprocess
        blank = torch.zeros(1, preprocess.channels, *preprocess.image_size)
        with torch.no_grad():  # unpacks what is packed, and finds what cannot run
            model(blank.to(next(self._base.parameters())))
        adapter = _Adapter(model, self._described(name, file, model))
        with self._changing:
            self._refuse_taken(name)
            self._adapters = {**self._adapters, name: adapter}

    def remove(self, name: str) -> None:
        """Offer an adapter no more; calls that have begun with it go on."""
        with self._changing:
            self._found(name)
            self._adapters = {key: value for key, value in self._adapters.items() if key != name}

    def names(self) -> list[str]:
        """Of all adapters, in the order they were added."""
        return list(self._adapters)

    def __contains__(self, name: object) -> bool:
        return name in self._adapters

    def __len__(self) -> int:
        return len(self._adapters)

    def describe(self, name: str) -> AdapterDescription:
        """What is known of an adapter."""
        return self._found(name).about

    def model(self, name: str) -> StagedViT:
        """The composed model of an adapter, on the shared weights."""
        return self._found(name).model

    def logits(self, images: Tensor, adapter: str) -> Tensor:
        """What the adapter's model gives for prepared images: [B, channels, height, width] -> [B, outputs].
        Exactly what its run loaded alone gives for the same batch."""
        with torch.no_grad():
            logits: Tensor = self._found(adapter).model(self._placed(images))
        return logits

    def logits_grouped(self, images: Tensor, adapters: Sequence[str]) -> list[Tensor]:
        """One batch of images of one size, each for an adapter of its own: B tensors [outputs].

        Rows are computed adapter by adapter; the patch embedding and the blocks before the first that an
        adapter changes are computed once for all rows. The same as `logits` up to rounding, since products
        of other batch sizes are summed in another order.
        """
        images = self._placed(images)
        if isinstance(adapters, str) or len(adapters) != len(images):
            raise ValueError(f"give one adapter for each of the {len(images)} images, got {adapters!r}")
        known = self._adapters  # one state of the pool for the whole batch
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(adapters):
            rows.setdefault(name, []).append(row)
        groups = []
        for name, members in rows.items():
            adapter = self._found(name, known)
            size, asked = tuple(images.shape[-2:]), adapter.about.image_size
            if len(rows) > 1 and size != asked:
                raise ValueError(
                    f"the adapter {name!r} takes images of {asked[0]}x{asked[1]} pixels and this batch has "
                    f"{size[0]}x{size[1]}; put adapters of other sizes into another batch"
                )
            groups.append(Group(adapter.model, adapter.about.shared_blocks, members))
        with torch.no_grad():
            return grouped_logits(self._base, images, groups)

    def _placed(self, images: Tensor) -> Tensor:
        if not isinstance(images, Tensor) or images.ndim != 4:
            shape = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(f"give prepared images as a tensor [B, channels, height, width], got {shape}")
        return images.to(next(self._base.parameters()).device)

    def _found(self, name: str, known: dict[str, _Adapter] | None = None) -> _Adapter:
        known = self._adapters if known is None else known
        adapter = known.get(name) if isinstance(name, str) else None
        if adapter is None:
            advice = did_you_mean(str(name), known) if known else "the pool is empty"
            raise UnknownAdapterError(f"no adapter {name!r} here; {advice}")
        return adapter

    def _refuse_taken(self, name: str) -> None:
        if name in self._adapters:
            raise ValueError(f"there is an adapter {name!r} already; remove it first, or take another name")

    def _described(self, name: str, file: Path, model: StagedViT) -> AdapterDescription:
        held = storages(held_tensors(model))
        return AdapterDescription(
            name=name,
            source=str(file),
            task=model.task,
            outputs=model.num_classes,
            classes=model.classes,
            image_size=model.preprocess.image_size,
            preprocessing=model.preprocess,
            methods=tuple(map(repr, model.methods)),
            bytes=sum(size for place, size in held.items() if place not in self._own),
            shared_blocks=shared_blocks(self._base, model),
        )


def _bare(
    backbone: str | Path | nn.Module, pretrained: bool, weights: str | Path | None
) -> tuple[nn.Module, Origin]:
    """The backbone that is meant, without methods, and where it is from."""
    if isinstance(backbone, StagedViT):
        if backbone.methods:
            raise ValueError(
                f"this model carries {', '.join(map(repr, backbone.methods))}; give the pool its bare "
                "backbone, or the file it was saved to"
            )
        return backbone.vit, backbone.origin
    if not isinstance(backbone, nn.Module) and _is_saved(Path(backbone)):
        if pretrained or weights is not None:
            raise ValueError(f"{backbone} says what its backbone is; leave out pretrained and weights")
        return bare_backbone_of(model_file_of(backbone))
    given = str(backbone) if isinstance(backbone, Path) else backbone
    if isinstance(given, str) and Path(given).is_file():
        refuse_program(Path(given))
    return open_backbone(given, pretrained, weights)


def _is_saved(path: Path) -> bool:
    """Whether this is a run folder or a model that vitrim saved, not a name or a checkpoint."""
    return (path / "run.json").is_file() or is_saved_model(path)
