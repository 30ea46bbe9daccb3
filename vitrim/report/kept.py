"""Which patches a model still sees after each reducing block, drawn over the image itself.

A patch with a token of its own is shown as it is, patches that share a token in their common mean colour,
tinted blue, dropped ones white. It is read from `TokenState.source`, so it holds for every reducer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitrim.backbones.embedding import embed
from vitrim.backbones.geometry import prefix_count
from vitrim.network.model import StagedViT
from vitrim.tokens.state import TokenState

BLUE = (0.25, 0.5, 0.85)
TINT = 0.4  # how much of the colour of a shared token is blue


@dataclass(frozen=True)
class Seen:
    """What is left of a batch of images after one block."""

    block: int
    tokens: int
    """patch tokens that left the block, the same for all images"""
    pictures: Tensor
    """[B, height, width, 3], values 0 to 1"""


def states(model: StagedViT, images: Tensor) -> Iterator[TokenState]:
    """The state after each block."""
    embedded = embed(model.vit, images)
    state = TokenState.start(embedded.tokens, prefix_count(model.vit), embedded.grid)
    for stage, block, places in zip(model.stages, model.vit.blocks, embedded.places, strict=True):
        state = stage(block, state, places, None)
        yield state


@torch.inference_mode()
def what_is_seen(model: StagedViT, images: Tensor) -> list[Seen]:
    """One entry for each block that makes the sequence shorter."""
    seen, before = [], None
    pixels = as_pictures(model, images)
    for index, state in enumerate(states(model.eval(), images)):
        if state.count != (before if before is not None else state.source.shape[1]):
            seen.append(Seen(index, state.count, draw(pixels, state)))
        before = state.count
    return seen


def draw(pixels: Tensor, state: TokenState) -> Tensor:
    """Pictures [B, height, width, 3] with every patch in the colours its token stands for."""
    rows, columns = state.grid[-2:]
    batch, height, width, _ = pixels.shape
    patches = pixels.view(batch, rows, height // rows, columns, width // columns, 3)
    patches = patches.transpose(2, 3).reshape(batch, rows * columns, -1, 3)  # [B, N0, pixels of a patch, 3]
    slot = state.source.clamp(min=0)  # [B, N0]
    sizes = torch.zeros_like(state.sizes).scatter_add(
        1, slot, (state.source >= 0).to(state.sizes.dtype)
    )  # [B, N]
    colours = patches.mean(2)  # [B, N0, 3]
    sums = torch.zeros(batch, state.count, 3).scatter_add(
        1, slot[..., None].expand(-1, -1, 3), colours * (state.source >= 0)[..., None]
    )
    shared = (sums / sizes.clamp(min=1)[..., None]).gather(1, slot[..., None].expand(-1, -1, 3))  # [B, N0, 3]
    shared = shared + TINT * (torch.tensor(BLUE) - shared)
    alone = (sizes.gather(1, slot) == 1)[..., None, None]
    shown = torch.where(alone, patches, shared[:, :, None])
    shown = torch.where((state.source >= 0)[..., None, None], shown, torch.ones(()))
    shown = shown.view(batch, rows, columns, height // rows, width // columns, 3).transpose(2, 3)
    return shown.reshape(batch, height, width, 3)


def as_pictures(model: StagedViT, images: Tensor) -> Tensor:
    """Undo the normalisation: [B, C, height, width] -> [B, height, width, 3]."""
    mean, std = torch.tensor(model.preprocess.mean), torch.tensor(model.preprocess.std)
    pixels = images.cpu().permute(0, 2, 3, 1) * std + mean
    return pixels.clamp(0, 1).expand(-1, -1, -1, 3)


def spread(labels: Sequence[int], count: int) -> list[int]:
    """Indices of `count` images, of as many different classes as possible."""
    first: dict[int, int] = {}
    for index, label in enumerate(labels):
        first.setdefault(label, index)
    chosen = [first[label] for label in sorted(first)]
    rest = [index for index in range(len(labels)) if index not in set(chosen)]
    return (chosen + rest)[:count]
