"""Where reducers may stand: one for each block, and none behind something it could not work with."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import nn

from vitrim.backbones.tuned_linear import Tuned
from vitrim.network.parts import Reducer, Selector

if TYPE_CHECKING:
    from vitrim.backbones.bridge import AttentionMixing
    from vitrim.network.method import Method
    from vitrim.network.model import StagedViT


def place(model: "StagedViT", at: Sequence[int], parts: Sequence[Reducer | Selector], by: "Method") -> None:
    """Put one part on each of the blocks `at`, then refuse what could not work, in a sentence."""
    for index, part in zip(model.check_blocks(at, by), parts, strict=True):
        stage = model.stages[index]
        standing = stage.before or stage.reducer
        if standing is not None:
            name = type(standing.by).__name__
            raise ValueError(f"{by}: block {index} already has a reducer ({name}); one per block")
        part.by = by
        if isinstance(part, Selector):
            stage.before = part
        else:
            stage.reducer = part
    check_order(model)


def check_order(model: "StagedViT") -> None:
    """Every reducer must be able to work with what those before it leave, whichever was attached first."""
    count = start = model.patch_count
    shortened: str | None = None
    masked: str | None = None
    for index, part in placed(model):
        here = f"{type(part.by).__name__} at block {index}"
        if isinstance(part, Reducer):
            if part.needs_grid and shortened is not None:
                raise ValueError(
                    f"{part.by}: block {index} needs the full grid of patches, but {shortened} reduces it; "
                    f"put {type(part.by).__name__} first, or choose a reducer that takes any tokens"
                )
            if masked is not None and not part.reads_masks:
                raise ValueError(
                    f"{part.by}: {here} comes after {masked}, which masks tokens instead of removing them "
                    f"while it trains; put {type(part.by).__name__} before it"
                )
        left = part.leaving(count, start) if isinstance(part, Selector) else part.leaving(count)
        if isinstance(part, Selector) or (part.masks_in_training and not part.static):
            masked = here
        if left != count or masked is not None:
            shortened = shortened or here
        count = left


def placed(model: "StagedViT") -> Iterator[tuple[int, Reducer | Selector]]:
    """Every reducer with the index of its block, in the order they run."""
    for index, stage in enumerate(model.stages):
        part = stage.before or stage.reducer
        if part is not None:
            yield index, part


def check_untouched(model: "StagedViT", first: int, by: "Method") -> None:
    """Refuse to take blocks from `first` on out, where a method stands in them already."""
    inside = (part for stage in list(model.stages)[first:] for part in stage.children())
    parts = any(not isinstance(part, nn.ModuleList) or len(part) for part in inside)
    tuned = any(isinstance(part, Tuned) for block in model.vit.blocks[first:] for part in block.modules())
    if parts or tuned:
        raise ValueError(f"{by}: methods stand in blocks that it takes out; name it before them")


def mix_from(model: "StagedViT", first: int, mixing: "AttentionMixing", by: "Method") -> None:
    """Let all blocks from `first` on attend through `mixing` while they train: learned masks act on every
    later block."""
    from vitrim.backbones.support import TalkingHeadAttn

    if any(isinstance(part, TalkingHeadAttn) for part in model.vit.modules()):
        raise ValueError(
            f"{by}: the backbone's talking heads (TalkingHeadAttn) mix heads on both sides of the softmax, "
            "where a learned mask has no place; use a reducer that learns none, such as EViT or ToMe"
        )
    for index, stage in enumerate(model.stages):
        if stage.mixing is not None:
            raise ValueError(
                f"{by}: block {index} already attends through learned masks; one such method per model"
            )
    for stage in list(model.stages)[first:]:
        stage.mixing = mixing


def weigh_by_size_after(model: "StagedViT", block: int) -> None:
    """Every block after `block` attends in proportion to token sizes."""
    for stage in list(model.stages)[block + 1 :]:
        stage.proportional = True
