"""`DenseModel`: a tuned and reduced backbone whose restored maps give class logits for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from vitrim.checks import block_indices, check_one_of
from vitrim.compose import compose
from vitrim.dense.classes import ClassTable
from vitrim.dense.decoders import make_head
from vitrim.dense.heads import LinearHead, resized
from vitrim.dense.restoring import RESTORE, check_can_fuse, grid_of_patches, logits_on_grid, states_at
from vitrim.network.model import StagedViT
from vitrim.video.model import VideoModel

if TYPE_CHECKING:
    from vitrim.network.method import Method

TAPS = (3, 5, 7, 11)  # of 12 blocks, counted from 0


class Decoded(NamedTuple):
    """What one pass gives before anything is made as large as the image."""

    logits: Tensor  # [B, K, rows, columns]
    auxiliary: Tensor | None  # the same of a head that helps training
    penalty: Tensor | None  # what learned reducers add to the loss


class DenseModel(nn.Module):
    """Segmentation by a plain ViT with any methods of vitrim on it: everything is frozen but what the methods
    add and the head.

    >>> reducer = EViT(keep=0.7, at=(4, 7, 10))
    >>> model = DenseModel("vit_small_patch14_dinov2", LoRA(rank=8), reducer, classes=21)
    >>> logits = model(images)  # [B, 21, height, width]

    Args:
        backbone: what `compose` takes, or a model that it made without a classifier.
        methods: any tuners and reducers, as for `compose`.
        classes: names of the classes, their number, or a `ClassTable`.
        restore: how patches that were reduced come back on the grid; see `vitrim.dense.restoring`.
        taps: the blocks whose maps the head reads, counted from 0. None: 3, 5, 7 and 11 of 12 blocks, and the
            same shares of another depth.
        head: "linear", "upernet" or "smp:NAME"; see `vitrim.dense.heads`.
        norm: put the backbone's final norm on every map.
        pretrained, weights, image_size, in_chans, patch_size: as for `compose`. `image_size` is the size of
            the windows that larger images are cut into.

    Attributes:
        staged: the composed backbone.
        head: what makes logits of its maps.
        table: names and colours of the classes.
        inference: how pictures of another size are looked at, "slide" or "whole"; see
            `vitrim.dense.evaluating`.
    """

    def __init__(
        self,
        backbone: str | nn.Module,
        *methods: Method | str,
        classes: ClassTable | Sequence[str] | int,
        restore: str = "delta",
        taps: Sequence[int] | None = None,
        head: str = "linear",
        norm: bool = True,
        pretrained: bool = False,
        weights: str | Path | None = None,
        image_size: int | tuple[int, int] | None = None,
        in_chans: int | None = None,
        patch_size: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        check_one_of("DenseModel", "restore", restore, RESTORE)
        self.table = ClassTable.of(classes)
        if isinstance(backbone, StagedViT):
            if methods or pretrained or not (weights is image_size is in_chans is patch_size is None):
                raise ValueError(
                    "this model is composed already: methods, pretrained, weights, image_size, in_chans and "
                    "patch_size go with a backbone's name or module"
                )
            self.staged = backbone
        else:
            self.staged = compose(
                backbone, *methods, num_classes=0, pretrained=pretrained, weights=weights,
                image_size=image_size, in_chans=in_chans, patch_size=patch_size,
            )  # fmt: skip
        check_staged(self.staged)
        self.restore, self.norm, self.head_name = restore, norm, head
        self.inference = "slide"
        self.taps = settled_taps(taps, self.staged.depth)
        self.head = make_head(head, self.staged.width, len(self.table), len(self.taps))
        like = next(self.staged.parameters())
        self.head.to(device=like.device, dtype=like.dtype)
        self.base_names = frozenset(f"staged.{name}" for name in self.staged.base_names)
        if restore == "fuse_last":
            check_can_fuse(self.staged)
        if restore == "logits" and not self.head.pointwise:
            raise ValueError(
                f"restore=logits decodes tokens without their neighbours, which head={head} reads; use "
                "head=linear, or delta, copy or knn"
            )
        self.train(self.staged.training)

    @property
    def methods(self) -> tuple[Method, ...]:
        """What is on the backbone, in order."""
        return self.staged.methods

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images, or of the windows of larger ones."""
        height, width = self.staged.preprocess.image_size
        return int(height), int(width)

    def trained(self) -> dict[str, nn.Parameter]:
        """What trains, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every pixel: [B, channels, height, width] -> [B, K, height, width]. Logits are made
        larger, not labels."""
        height, width = images.shape[-2:]
        return resized(self.decode(images).logits, (height, width))

    def decode(self, images: Tensor) -> Decoded:
        """The head's logits at its own size."""
        states = states_at(self.staged, images, self.taps, self.restore)
        penalty = states[-1].penalty
        if self.restore == "logits":
            assert isinstance(self.head, LinearHead)  # the only pointwise one
            logits = logits_on_grid(self.staged, states[-1], self.head.of_tokens, self.norm)
            return Decoded(logits, None, penalty)
        wanted = states if not self.head.pointwise else states[-1:]
        maps = [grid_of_patches(self.staged, state, self.restore, self.norm) for state in wanted]
        return Decoded(self.head(maps), self.head.auxiliary(maps) if self.training else None, penalty)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The restored maps of the taps, each [B, D, rows, columns]."""
        mode = "copy" if self.restore == "logits" else self.restore
        states = states_at(self.staged, images, self.taps, mode)
        return [grid_of_patches(self.staged, state, mode, self.norm) for state in states]


def settled_taps(taps: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    """The blocks that are read, in ascending order; refused where there is no such block."""
    usual = tuple(max((tap + 1) * depth // 12 - 1, 0) for tap in TAPS)  # a shallow one is read twice
    if taps is None or tuple(taps) == usual:
        return usual
    found = block_indices("DenseModel", taps)
    if found[-1] >= depth:
        raise ValueError(
            f"DenseModel: there is no block {found[-1]} to read; the backbone has blocks 0 to {depth - 1}"
        )
    return found


def check_no_side(model: StagedViT) -> None:
    """Refuse what gives its result to a classifier of whole pictures alone, and models of clips."""
    if isinstance(model, VideoModel):
        raise ValueError("this model is of clips; compose it without video for dense outputs")
    if model.side is not None:
        standing = next(name for name, part in model.shared.items() if part is model.side)
        raise ValueError(
            f"{standing} gives its result to a classifier of whole pictures and changes no map of patches; "
            "use another method for dense outputs"
        )


def check_staged(model: StagedViT) -> None:
    """Refuse what reads whole pictures only."""
    check_no_side(model)
    if model.num_classes:
        raise ValueError(
            f"the backbone still has a classifier of {model.num_classes} outputs; compose it with "
            "num_classes=0 for dense outputs"
        )
