"""Levels at which images keep as many tokens in the mean as a fixed share would leave them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.methods.budgets.chosen import Rule, within
from vitrim.methods.budgets.counted_part import CountedPart
from vitrim.network.parts import Selector
from vitrim.network.placing import placed

if TYPE_CHECKING:
    from vitrim.methods.budgets.per_image import PerImage
    from vitrim.methods.selection.scores import LabelledImages
    from vitrim.network.model import StagedViT

IMAGES = 256  # to calibrate on, the first of those given
STEPS = 60  # of the bisection: finer than any level that is written down
DIGITS = 8  # of a level in a composition's text


def joined(found: Sequence[Tensor]) -> Tensor:
    """Scores [b, N] of several batches as one, those of fewer tokens padded."""
    longest = max(scores.shape[1] for scores in found)
    return torch.cat([F.pad(scores, (0, longest - scores.shape[1]), value=-1.0) for scores in found])


def level_for(rule: Rule, scores: Tensor, mean: float, least: float, most: float) -> float:
    """The level at which the rule keeps `mean` tokens of the images with these scores [images, N], by
    bisection: counts never fall from the level that keeps the fewest to the one that keeps the most."""

    def kept(level: float) -> float:
        return within(rule.choose(scores, level), scores, least, most).counts.double().mean().item()

    few, many = rule.fewest(scores.shape[1]), rule.most(scores.shape[1])
    for _ in range(STEPS):
        middle = (few + many) // 2 if rule.whole else (few + many) / 2
        if middle in (few, many):
            break
        few, many = (middle, many) if kept(middle) < mean else (few, middle)
    nearest = min((few, many), key=lambda level: abs(kept(level) - mean))
    return int(nearest) if rule.whole else float(f"{nearest:.{DIGITS}g}")


def calibrate(
    model: "StagedViT",
    steps: Sequence[tuple[int, CountedPart]],
    batches: "LabelledImages",
    by: "PerImage",
) -> tuple[float, ...]:
    """A level for each of the steps, given with their blocks, one after the other: each sees what those
    before it leave. The mean at every block is what the fixed shares leave."""
    few = some_images(batches, by)
    counts = fixed_counts(model)
    was_training = model.training
    model.eval()
    found: list[float] = []
    try:
        for block, step in steps:
            step.level = step.rule().most(model.patch_count)
            scores = entering_scores(model, block, step, few)
            step.level = level_for(step.rule(), scores, counts[block], by.least, by.most)
            found.append(step.level)
    finally:
        model.train(was_training)
    return tuple(found)


def some_images(batches: "LabelledImages", by: object) -> list[Tensor]:
    """The first images of a data set; several passes over them follow."""
    found: list[Tensor] = []
    for images, _ in batches:
        found.append(images)
        if sum(map(len, found)) >= IMAGES:
            break
    if not found:
        raise ValueError(f"{by}: there are no images to calibrate on; give batches of (images, labels)")
    return found


def fixed_counts(model: "StagedViT") -> dict[int, int]:
    """By block, how many tokens each of the steps would keep if all images kept the same."""
    count, found = model.patch_count, {}
    for block, part in placed(model):
        if isinstance(part, CountedPart):
            found[block] = part.mean_kept(count, model.patch_count)
        count = part.leaving(count, model.patch_count) if isinstance(part, Selector) else part.leaving(count)
    return found


@torch.no_grad()
def entering_scores(model: "StagedViT", block: int, step: CountedPart, images: Sequence[Tensor]) -> Tensor:
    """What the step of a block ranks images by, with the blocks before it as they are. [images, N]"""
    found: list[Tensor] = []
    assert isinstance(step, nn.Module)
    hook = step.register_forward_pre_hook(lambda _, given: found.append(step.ranked(*given)))
    like = next(model.vit.parameters())
    try:
        for batch in images:
            state, places = model.begin(batch.to(like.device, like.dtype))
            model.pass_blocks(state, places, range(block + 1), None)
    finally:
        hook.remove()
    return joined(found)
