"""What became of every patch of some images, block by block, from one forward pass: the arrays behind the
pictures of kept and merged tokens and of attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitrim.network.model import StagedViT
from vitrim.tokens.state import TokenState

OWN, MERGED, FUSED, DROPPED = range(4)
FATES = ("a token of its own", "shares a token with like ones", "fused into one token", "dropped")


@dataclass(frozen=True)
class TracedBlock:
    """What one block did to the patches of a batch.

    Attributes:
        block: its index.
        entering, leaving: [B, N0], the token every original patch was in before and after it, -1 once
            dropped.
        fate: [B, N0], OWN, MERGED, FUSED or DROPPED, after the block.
        skipped: [B, N0], whether a dispatcher led the patch's token past the MLP (DyT).
        tokens: patch tokens that left it; padding included where images keep different counts.
        attention: [B, N], what the class token (without one: the mean over all tokens) attended to among the
            patch tokens that entered, the mean over heads.
    """

    block: int
    entering: Tensor
    leaving: Tensor
    fate: Tensor
    skipped: Tensor
    tokens: int
    attention: Tensor

    def attention_of_patches(self, spread: bool = False) -> Tensor:
        """[B, N0]: the attention to the token each patch is in, nan where it was dropped; with `spread`
        divided by the number of patches in the token, so that a row still sums to the same.
        """
        slot = self.entering.clamp(min=0)
        values = self.attention.gather(1, slot)
        if spread:
            there = (self.entering >= 0).to(values.dtype)
            members = torch.zeros_like(self.attention).scatter_add(1, slot, there)  # [B, N]
            values = values / members.gather(1, slot).clamp(min=1)
        return torch.where(self.entering < 0, torch.nan, values)


@dataclass(frozen=True)
class Traced:
    """A batch of images on its way through a model."""

    logits: Tensor
    """[B, classes]"""
    grid: tuple[int, ...]
    blocks: tuple[TracedBlock, ...]
    frames: int | None = None
    """of clips: so many rows of a block are one view of one clip; only the first view of each is here"""

    @property
    def shortening(self) -> tuple[TracedBlock, ...]:
        """The blocks after which patches stand elsewhere than before, or that some patches skip."""
        return tuple(
            block
            for block in self.blocks
            if bool(block.skipped.any()) or not torch.equal(block.entering, block.leaving)
        )


@torch.inference_mode()
def trace(model: StagedViT, images: Tensor) -> Traced:
    """Run images [B, C, height, width] through a model in evaluation mode and write down what happened. Of
    clips [B, V, C, T, height, width] the logits are of all views and the rest is of the first."""
    if images.ndim == 6:
        return replace(trace(model, images[:, 0]), logits=model(images))
    blocks: list[TracedBlock] = []
    fused = torch.zeros(())
    before = None
    classed = model.has_class_token
    for index, state in enumerate(states(model.eval(), images, watched=True)):
        if before is None:
            before = start_of(state)
            fused = torch.zeros_like(before.source, dtype=torch.bool)
        fused = _fused(fused, before, state)
        blocks.append(_block(index, before, state, fused, classed))
        before = state
    if before is None:
        raise ValueError("the model has no blocks to trace")
    last = before.without_prompts(model.prefix)
    frames = None if before.clips is None else before.clips.frames
    return Traced(model.classify(last), before.grid, tuple(blocks), frames)


def states(model: StagedViT, images: Tensor, watched: bool = False) -> Iterator[TokenState]:
    """The state after each block; `watched`, with its attention and what its reductions did."""
    state, all_places = model.begin(images, watched)
    for stage, block, places in zip(model.stages, model.vit.blocks, all_places, strict=True):
        if watched:
            state = replace(state, history=(), attention=(), dispatched=())
        state = stage(block, state, places, None)
        yield state


def start_of(state: TokenState) -> TokenState:
    """A state of the same images before the first block, in which every patch stands for itself."""
    cells = torch.arange(state.source.shape[1], device=state.source.device).expand_as(state.source)
    return replace(state, source=cells, sizes=torch.ones_like(cells, dtype=state.sizes.dtype), history=())


def _fused(fused: Tensor, before: TokenState, after: TokenState) -> Tensor:
    """[B, N0]: which patches are in a token that was fused, once for all."""
    place = before.source
    for step in after.history or ():
        place = torch.where(place < 0, -1, step.slots.gather(1, place.clamp(min=0)))
        if step.fused:
            fused = fused | (place == step.after.shape[1] - 1)
        if step.fused_at is not None:
            fused = fused | ((place >= 0) & (place == step.fused_at[:, None]))
    return fused


def _block(index: int, before: TokenState, after: TokenState, fused: Tensor, classed: bool) -> TracedBlock:
    members = members_of(after.source)
    fate = torch.where(members > 1, MERGED, OWN)
    fate = torch.where(fused, FUSED, fate)
    fate = torch.where(after.source < 0, DROPPED, fate)
    attention = (after.attention or ())[0].mean(1)  # [B, T, T]
    row = attention[:, 0] if classed else attention.mean(1)  # [B, T]
    entered = before.sizes.shape[1]
    skipped = torch.zeros_like(fused)
    if after.dispatched:
        passes = after.dispatched[0].bool()  # [B, N] of the tokens that passed the MLP
        skipped = ~passes.gather(1, after.source.clamp(min=0)) & (after.source >= 0)
    return TracedBlock(
        index, before.source, after.source, fate, skipped, after.count, row[:, row.shape[1] - entered :]
    )


def members_of(source: Tensor) -> Tensor:
    """[B, N0]: with how many patches each one shares its token, itself included; dropped ones count zero."""
    slot, there = source.clamp(min=0), (source >= 0).long()
    counts = torch.zeros_like(source).scatter_add(1, slot, there)
    return counts.gather(1, slot) * there
