"""What keeps the result of frozen blocks from being computed once for all epochs, each in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from timm.layers import DropPath
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vitrim.data import DataSource
from vitrim.network.frozen import first_changing, frozen_blocks
from vitrim.network.model import StagedViT
from vitrim.network.placing import placed
from vitrim.settings.training import Training

BEGIN = "cache_frozen=true keeps what frozen blocks say of an image for all epochs, but"
OR_WITHOUT = "or leave cache_frozen out"
CHANGES: Mapping[str, tuple[Any, str]] = {  # setting: the value that changes nothing, what others do
    "augment": ("none", "changes training images at random"),
    "colour_jitter": (0.0, "changes their colours at random"),
    "erasing": (0.0, "erases parts of them at random"),
    "mixup": (0.0, "blends them at random"),
    "cutmix": (0.0, "mixes them at random"),
    "teacher": (None, "lets a teacher look at the images in every epoch"),
}


def check_cached_images(source: DataSource, training: Training, processes: int) -> None:
    """Refuse settings and data with which no epoch sees the images of the one before."""
    if source.clips is not None:
        raise ValueError(f"{BEGIN} the frames of training clips are drawn at random; leave cache_frozen out")
    for name, (still, what) in CHANGES.items():
        given = getattr(training, name)
        if given != still:
            shown = "null" if still is None else still
            raise ValueError(f"{BEGIN} {name}={given} {what}; give {name}={shown}, {OR_WITHOUT}")
    if processes > 1:
        raise ValueError(f"{BEGIN} {processes} processes would have to share it; use one, {OR_WITHOUT}")


def check_cached_blocks(model: StagedViT) -> int:
    """How many blocks are frozen; refused where none are, or where one does something else every time."""
    count = frozen_blocks(model)
    if count == 0:
        raise ValueError(
            f"{BEGIN} no block is frozen: {_first_trained(model)} trains in the first one, before it, or "
            f"beside all of them; name later blocks (at=...), {OR_WITHOUT}"
        )
    for index, part in placed(model):
        if index < count and not part.static:
            raise ValueError(
                f"{BEGIN} {part.by} keeps in block {index} as many tokens as each image needs; use "
                f"budget='fixed' or a block from {count} on, {OR_WITHOUT}"
            )
    if draws := next(_drawing(model, count), None):
        raise ValueError(f"{BEGIN} {draws}; set it to 0, {OR_WITHOUT}")
    changing = first_changing(model, count)
    if changing is not None:
        stage = model.stages[changing]
        by = [part.by for part in (stage.before, stage.reducer) if part is not None]
        what = f"{by[0]} in block {changing}" if by else f"block {changing}"
        raise ValueError(
            f"{BEGIN} {what} does something else in every step or epoch; leave out what it draws or follows, "
            f"name a block from {count} on, {OR_WITHOUT}"
        )
    return count


def _first_trained(model: StagedViT) -> str:
    """The name of what trains earliest: in the first block, else outside the blocks but not behind them."""
    trained = model.trained()
    first = {id(weight) for part in (model.vit.blocks[0], model.stages[0]) for weight in part.parameters()}
    behind = {id(weight) for part in model.behind_blocks() for weight in part.parameters()}
    inside = [name for name, weight in trained.items() if id(weight) in first]
    outside = [name for name, weight in trained.items() if id(weight) not in behind]
    return next(iter((*inside, *outside, *trained)))


def _drawing(model: StagedViT, count: int) -> Iterator[str]:
    """What is known to draw at random in the frozen blocks or before them, in words."""
    vit, stages = model.vit, list(model.stages)
    later = (*vit.blocks[count:], *model.behind_blocks(), vit.head_drop)
    behind = {module for part in later for module in part.modules()}
    named = [*vit.named_modules(), *((f"stages.{i}.{n}", m) for i in range(count) for n, m in
             stages[i].named_modules())]  # fmt: skip
    for name, module in named:
        if module in behind:
            continue
        if isinstance(module, nn.Dropout) and module.p > 0:
            yield f"the dropout of {module.p:g} at {name} draws at random"
        if isinstance(module, DropPath) and module.drop_prob:
            yield f"drop_path skips {name} at random"
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats:
            yield f"the batch norm {name} reads the other images of its batch"
