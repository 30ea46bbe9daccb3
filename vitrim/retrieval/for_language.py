"""A reduced vision tower for a language model: patch tokens, fewer of them, with where they came from.

Most Vision Transformers run today in front of a language model, which pays for every patch token in its
prefill and its cache. A tower composed with a reducer hands over fewer. The language model learns
places from the order alone, so tokens come in the order of the cells they sit on, with cells and sizes
beside them for those that embed places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitrim.backbones.heads import last_tokens
from vitrim.network.model import StagedViT


@dataclass(frozen=True)
class ReducedPatches:
    """What a language model is given of each image.

    Attributes:
        tokens: [B, M, D], in the order of their cells.
        position: [B, M], the cell of the original grid each sits on, counted row by row.
        sizes: [B, M], how many patches each stands for.
        grid: rows and columns of the original grid.
    """

    tokens: Tensor
    position: Tensor
    sizes: Tensor
    grid: tuple[int, ...]

    @property
    def count(self) -> int:
        """M: how many tokens the language model reads instead of rows times columns."""
        return self.tokens.shape[1]

    def rows_and_columns(self) -> tuple[Tensor, Tensor]:
        """Row and column of each token's cell, for models with places in two dimensions: [B, M] each"""
        columns = self.grid[-1]
        return self.position // columns, self.position % columns


class LanguageVisionTower(nn.Module):
    """Images to `ReducedPatches`.

    Args:
        vision: a composed tower, num_classes=0, whose reducers remove tokens (masks while training are
            refused when they are met).
        layer: after which block tokens are taken, counted from the end: -1 the last, -2 the one before, as
            LLaVA does.
        normed: put the backbone's final norm on them; LLaVA does not.
    """

    def __init__(self, vision: StagedViT, layer: int = -1, normed: bool = False) -> None:
        super().__init__()
        if not -vision.depth <= layer <= -1:
            raise ValueError(
                f"layer counts from the end, -1 to -{vision.depth} for this vision tower, got {layer!r}"
            )
        self.vision, self.layer, self.normed = vision, layer, normed

    def forward(self, images: Tensor) -> ReducedPatches:
        """Images [B, 3, height, width]"""
        vision = self.vision
        state, places = vision.begin(images)
        state = vision.pass_blocks(state, places, range(vision.depth + 1 + self.layer), None)
        if state.keep is not None:
            raise ValueError(
                "this reducer masks tokens here instead of removing them, so images would keep different "
                "counts; use the tower in evaluation mode, with a reducer that removes as many of every image"
            )
        tokens = last_tokens(vision.vit, state)[0] if self.normed else state.tokens
        patches = tokens[:, -state.count :]
        order = state.position.argsort(1)  # [B, M]
        rows = torch.arange(len(order), device=order.device)[:, None]
        return ReducedPatches(
            patches[rows, order], state.position.gather(1, order), state.sizes.gather(1, order), state.grid
        )


def spliced(embedded: Tensor, ids: Tensor, image_token: int, seen: Tensor) -> Tensor:
    """A prompt's embeddings with its run of image tokens replaced by fewer or more: the language
    model's input.

    Args:
        embedded: [B, L, W] of the prompt.
        ids: [B, L], token ids; each row has one run of `image_token`, in the same place.
        seen: [B, M, W], projected tokens of each row's image.

    Returns:
        [B, L - run + M, W]
    """
    marked = ids == image_token
    first = marked[0].nonzero()[:, 0]
    together = len(first) and len(first) == int(first[-1] - first[0]) + 1
    if not together or not bool((marked == marked[:1]).all()):
        raise ValueError(f"the prompts need one run of the image token {image_token} each, in the same place")
    if seen.shape[-1] != embedded.shape[-1]:
        raise ValueError(
            f"image tokens are {seen.shape[-1]} wide but the prompt's embeddings {embedded.shape[-1]}; "
            "project them first"
        )
    return torch.cat([embedded[:, : first[0]], seen.to(embedded), embedded[:, first[-1] + 1 :]], dim=1)


def prefill_macs(config: Any, tokens: int) -> int:
    """Multiply-accumulates of a decoder of the Llama kind over `tokens`, from its configuration: attention
    with grouped keys and values, gated feed-forward, no head."""
    width, heads = config.hidden_size, config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or width // heads
    keys = getattr(config, "num_key_value_heads", None) or heads
    projections = width * head_width * (2 * heads + 2 * keys)
    layer = tokens * (projections + 3 * width * config.intermediate_size) + 2 * tokens**2 * heads * head_width
    return config.num_hidden_layers * layer
