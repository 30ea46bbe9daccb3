"""Several tasks for one pass of the backbone: their heads read side streams, or the backbone itself.

A bypass (`ResTuning`), queries (`SynQT`) and linear probes change nothing in the backbone, so the tokens that
one of them reads are the tokens that all of them read.
"""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vitrim.backbones.geometry import prefix_count
from vitrim.backbones.opening import digest
from vitrim.files.saving import changed_names
from vitrim.methods.tuners.batchnorm_head import BatchNormHead
from vitrim.methods.tuners.linear import Linear
from vitrim.network.model import StagedViT
from vitrim.network.stage import Stage


def together(models: Sequence[StagedViT]) -> "Together":
    """One model for several tasks on the same backbone, which runs once for all of them.

    Args:
        models: tuned by ResTuning(form="bypass"), SynQT or Linear, with the same reducer or none. They keep
            working by themselves; only the first one's backbone runs.

    Raises:
        ValueError: for a model that changes the backbone, another backbone or another reducer.

    >>> logits = together([cars, birds, flowers])(images)  # a tensor [B, classes] for each
    """
    if not models:
        raise ValueError("together needs at least one model; give composed models of the same backbone")
    for index, model in enumerate(models):
        _check_beside(model, index)
    known = {digest(model.vit, changed_names(model), model.digests) for model in models}
    if len(known) > 1:
        raise ValueError(
            "together runs one backbone for all, but these models stand on different weights; give models "
            "that were composed on the same backbone"
        )
    reducers = [[repr(method) for method in model.methods if method.reduces] for model in models]
    differing = next((each for each in reducers if each != reducers[0]), None)
    if differing is not None:
        raise ValueError(
            f"together runs one sequence of tokens for all, but one model reduces by {reducers[0]} and "
            f"another by {differing}; give models with the same reducer"
        )
    return Together(models)


def _check_beside(model: StagedViT, index: int) -> None:
    if not isinstance(model, StagedViT):
        raise ValueError(f"together takes composed models, got {type(model).__name__} at place {index}")
    own = model.side
    for method in model.methods:
        name = type(method).__name__
        beside = isinstance(method, Linear | BatchNormHead) or (
            own is not None and name in model.shared and model.shared[name] is own
        )
        if not beside and not method.reduces:
            raise ValueError(
                f"together: {method} of the model at place {index} changes what the backbone computes, so it "
                "needs a pass of its own; give models tuned by ResTuning(form='bypass'), SynQT or Linear"
            )
    if any(parameter.requires_grad for parameter in model.vit.blocks.parameters()):
        raise ValueError(f"together: the backbone of the model at place {index} was merged or trains")


class Together(nn.Module):
    """What `together` gives: images in, the logits of every task out."""

    def __init__(self, models: Sequence[StagedViT]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.stages = nn.ModuleList(
            _with_all_steps([model.stages[index] for model in models]) for index in range(models[0].depth)
        )
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """[B, channels, height, width] -> [B, classes] of each model, in their order"""
        models = [cast("StagedViT", model) for model in self.models]
        first, sides = models[0], [model.side for model in models]
        state, places = first.begin(images)
        state = state.replaced(side=tuple(side.start(state) for side in sides if side is not None))
        read = [model.rows_read() for model in models]
        rows = None if None in read else max(row for row in read if row is not None)
        last = first.depth - 1
        for index, (stage, block) in enumerate(zip(self.stages, first.vit.blocks, strict=True)):
            state = stage(block, state, places[index], rows if index == last else None)
        state = state.without_prompts(prefix_count(first.vit)) if rows is None else state
        streams = iter(state.side)
        own = [(next(streams),) if side is not None else () for side in sides]
        return tuple(
            model.classify(state.replaced(side=side)) for model, side in zip(models, own, strict=True)
        )


def _with_all_steps(stages: Sequence[Stage]) -> Stage:
    """The first model's stage with the side steps of all of them."""
    joint = copy.copy(stages[0])
    joint._modules = dict(joint._modules)
    joint.aside = nn.ModuleList(step for stage in stages for step in stage.aside)
    return joint
