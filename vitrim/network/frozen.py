"""The blocks before anything that trains: what they say about an image stays the same while the rest learns.

Autograd keeps nothing of them, because nothing that enters them or stands in them asks for a gradient. Which
blocks those are is read off what trains, and checked against autograd itself on a pass of two images. What
they give can be taken out as tensors (`FrozenBlocks`) and put into the rest of the model (`LaterBlocks`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vitrim.backbones.packed import Images
from vitrim.backbones.places import Places
from vitrim.network.budgeting import Drawing
from vitrim.network.executions import pass_all
from vitrim.network.placing import placed
from vitrim.tokens.later import Later
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

FAR = 1e6  # epochs: the end of every schedule
Kept = Mapping[str, Tensor]  # what is kept of a batch of images, by name, [B, ...] each


def frozen_blocks(model: StagedViT) -> int:
    """How many blocks run before the first part that trains: `model.depth` where only what reads the last
    block does, 0 where something in the first block or before it trains."""
    count = next((index for index in range(model.depth) if _trains(model, index)), model.depth)
    if count == 0 or model.side is not None:
        return 0
    with _as_in_training(model, seed=0), torch.enable_grad():
        state, places = model.begin(some_images(model))
        if _asks_for_gradients((places, state)):
            return 0
        for index in range(count):
            state = model.pass_blocks(state, places, range(index, index + 1), None)
            if _asks_for_gradients(state):
                return index
    return count


def some_images(model: StagedViT) -> Tensor:
    """Two images of noise, always the same, where the model is."""
    weight, noise = next(model.vit.parameters()), torch.Generator().manual_seed(0)
    return torch.randn((2, *model.input_shape()), generator=noise).to(weight)


def _trains(model: StagedViT, index: int) -> bool:
    parts = (model.vit.blocks[index], model.stages[index])
    return any(weight.requires_grad for part in parts for weight in part.parameters())


def _asks_for_gradients(value: Any) -> bool:
    """Whether a tensor in a state, or in anything it holds, depends on something that trains."""
    if isinstance(value, Tensor):
        return value.requires_grad
    if isinstance(value, Later):
        return any(map(_asks_for_gradients, (value.found, *value.given)))
    if isinstance(value, tuple | list):
        return any(map(_asks_for_gradients, value))
    return hasattr(value, "__dict__") and any(map(_asks_for_gradients, vars(value).values()))


@contextmanager
def _as_in_training(model: StagedViT, seed: int) -> Iterator[None]:
    """The model in training mode, with randomness of its own; as before in the end."""
    weight, before = next(model.vit.parameters()), model.training
    with torch.random.fork_rng([weight.device] if weight.is_cuda else []):
        torch.manual_seed(seed)
        model.train()
        try:
            yield
        finally:
            model.train(before)


@dataclass(frozen=True)
class FrozenBlocks:
    """The first `count` blocks of a model, from images to what the later blocks read."""

    model: StagedViT
    count: int

    @property
    def rows(self) -> int | None:
        """How many tokens of the last of these blocks anyone reads."""
        return self.model.rows_read() if self.count == self.model.depth else None

    @torch.no_grad()
    def state(self, images: Images) -> tuple[TokenState, list[Places]]:
        """The state after these blocks, in the mode the model is in."""
        state, places = self.model.begin(images)
        return self.model.pass_blocks(state, places, range(self.count), self.rows), places

    def __call__(self, images: Images) -> dict[str, Tensor]:
        """All that the later blocks read of these images and of no others."""
        return _kept(self.state(images)[0])

    def rest(self) -> LaterBlocks:
        """The other end of the model, which takes what `__call__` gives."""
        with _as_in_training(self.model, seed=0):
            return LaterBlocks(self.model, self.count, *self.state(some_images(self.model)))


def _kept(state: TokenState) -> dict[str, Tensor]:
    kept = {"tokens": state.tokens}
    if state.moved and state.count:
        kept |= {"sizes": state.sizes, "position": state.position, "source": state.source}
    if state.keep is not None:
        kept["keep"] = state.keep
    return kept | {f"trail{index}": tokens for index, tokens in enumerate(state.trail)}


def whole_batch(state: TokenState) -> bool:
    """Whether a state holds nothing that belongs to a batch instead of one of its images."""
    nothing = ("penalty", "spent", "history", "attention", "padding", "clips", "ragged")
    return all(getattr(state, name) is None for name in nothing) and not state.dispatched and not state.side


class LaterBlocks(nn.Module):
    """What is left of a model behind its first `count` blocks: takes what was kept of images where the model
    takes images. `like` and `places` are those of any images."""

    def __init__(self, model: StagedViT, count: int, like: TokenState, places: list[Places]) -> None:
        super().__init__()
        self.model, self.count = model, count
        self.num_classes, self.methods = model.num_classes, model.methods
        self.task, self.classes, self.scale = model.task, model.classes, model.scale
        self.like, self.places = like.replaced(tokens=like.tokens[:0], keep=None, trail=()), places

    def forward(self, kept: Kept) -> Tensor:
        return self.forward_with_penalty(kept)[0]

    def forward_with_penalty(self, kept: Kept, complete: bool = False) -> tuple[Tensor, Tensor | None]:
        """As `StagedViT.forward_with_penalty`."""
        state = self.state(kept).replaced(complete=complete)
        state = pass_all(self.model, state, self.places, self.model.rows_read(), first=self.count)
        return self.model.classify(state), state.penalty

    def state(self, kept: Kept) -> TokenState:
        """The state after the first blocks, as it was."""
        tokens, like = kept["tokens"], self.like
        if "sizes" in kept:
            places = {name: kept[name] for name in ("sizes", "position", "source")}
        else:  # every patch is its own, or only tokens before the patches are left
            whole = TokenState.start(tokens.new_empty((len(tokens), like.started, 0)), 0, like.grid)
            places = {name: whole.noted(name) for name in ("sizes", "position", "source")}
            if tokens.shape[1] == like.prefix:
                places |= {name: tokens.new_empty((len(tokens), 0)) for name in ("sizes", "position")}
        earlier = sum(name.startswith("trail") for name in kept)
        trail = tuple([kept[f"trail{index}"] for index in range(earlier)])
        return like.replaced(tokens=tokens, keep=kept.get("keep"), trail=trail, **places)


class HeadAlone(nn.Module):
    """The end of a model of which only the classifier trains: takes features [B, D] under that name."""

    def __init__(self, model: StagedViT) -> None:
        super().__init__()
        self.head_drop = model.vit.head_drop
        self.head = model.vit.head
        self.num_classes = model.num_classes
        self.task, self.classes, self.scale = model.task, model.classes, model.scale
        self.methods: tuple[()] = ()

    def forward(self, kept: Kept) -> Tensor:
        logits: Tensor = self.head(self.head_drop(kept["features"]))
        return logits

    def forward_with_penalty(self, kept: Kept) -> tuple[Tensor, None]:
        return self(kept), None


def first_changing(model: StagedViT, count: int) -> int | None:
    """The first of `count` blocks that gives something else for the same images in another step or epoch of
    training, or in evaluation; tried, because parts of a kind we do not know may draw at random."""
    found = []
    for seed, (epoch, share) in enumerate(((0.0, 0.0), (FAR, 1.0))):
        model.set_progress(epoch)
        for _, part in placed(model):
            if isinstance(part, Drawing):
                part.draw(share)
        with _as_in_training(model, seed):
            found.append(_after_each(model, count))
    model.set_progress(0)
    before = model.training
    model.eval()
    found.append(_after_each(model, count))
    model.train(before)
    for index, (one, *others) in enumerate(zip(*found, strict=True)):
        if not all(_alike(one, other) for other in others):
            return max(index - 1, 0)  # what enters the first block stands before them
    return None


@torch.no_grad()
def _after_each(model: StagedViT, count: int) -> list[Kept]:
    """What is kept of some images before the first block and after each."""
    state, places = model.begin(some_images(model))
    tables = {f"place{number}": each for number, each in enumerate(places[0]) if each is not None}
    found: list[Kept] = [{**_kept(state), **tables}]
    for index in range(count):
        state = model.pass_blocks(state, places, range(index, index + 1), None)
        found.append(_kept(state))
    return found


def _alike(one: Kept, other: Kept) -> bool:
    return set(one) == set(other) and all(
        value.shape == other[name].shape and torch.allclose(value, other[name], rtol=1e-4, atol=1e-5)
        for name, value in one.items()
    )
