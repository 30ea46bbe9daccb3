"""Parts of a block at any count of patch tokens: ready to be timed, and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle

import numpy as np
import torch
from torch import Tensor

from vitrim.measuring.counting import MacCounter, counting, without_values
from vitrim.methods.reducers.evit import EViT
from vitrim.network.copying import copied
from vitrim.network.model import StagedViT
from vitrim.tokens.state import TokenState

REDUCED_TO = 0.7  # of the patches, where the time of reducing is asked for
Point = tuple[str, int]  # a part of a block, and its patch tokens


class Parts:
    """Parts of a block at a count of patch tokens, ready to be timed.

    Every call takes the next block, so that weights come from as far away as in a pass of the whole model.
    """

    def __init__(self, model: StagedViT, images: Tensor) -> None:
        self.model, self.images, self.rows = model, images, model.rows_read()
        self.state, self.places = model.begin(images)
        self.reducing = copied(model, {id(model.vit): model.vit})  # stages of its own, the same blocks
        every = tuple(range(max(1, model.depth - 1)))
        EViT(keep=REDUCED_TO, at=every, score=EViT.example(model).score).attach(self.reducing)

    def __call__(self, point: Point) -> Callable[[], object]:
        part, count = point
        if part == "outside":
            return self._outside
        last, state = self.model.depth - 1, cut(self.state, count)
        if part == "last":
            run = partial(self.model.stages[last], rows=self.rows)
            return partial(run, self.model.vit.blocks[last], state, self.places[last])
        turns = cycle([self._half(part, index, state) for index in range(max(1, last))])

        def next_block() -> object:
            return next(turns)()

        return next_block

    def _half(self, part: str, index: int, state: TokenState) -> Callable[[], object]:
        stage, block = self.model.stages[index], self.model.vit.blocks[index]
        if part == "reducing":
            stage = self.reducing.stages[index]
        if part in ("attention", "reducing"):
            return partial(stage.enter, block, state, self.places[index], None)
        return partial(stage.leave, block, state, stage.enter(block, state, self.places[index], None)[1])

    def whole_block(self, count: int) -> TokenState:
        """The state after a block in the middle."""
        index = self.model.depth // 2
        stage, block = self.model.stages[index], self.model.vit.blocks[index]
        return stage(block, cut(self.state, count), self.places[index], None)

    def _outside(self) -> object:
        state, _ = self.model.begin(self.images)
        return self.model.classify(state if self.rows is None else state.first(self.rows))


def cut(state: TokenState, count: int) -> TokenState:
    """The first `count` patches, in memory of their own as a reduction leaves them."""
    if count == state.count:
        return state
    return state.replaced(
        tokens=state.tokens[:, : state.prefix + count].contiguous(),
        sizes=state.sizes[:, :count],
        position=state.position[:, :count],
        moved=True,
    )


def block_macs(model: StagedViT, counts: Sequence[int]) -> np.ndarray:
    """Multiply-accumulates of a block that reduces nothing, for an image, at each count."""
    twin, found = without_values(model), []
    like = next(twin.vit.parameters())
    parts = Parts(twin, torch.empty((1, *model.input_shape()), dtype=like.dtype, device="meta"))
    for count in counts:
        counter = MacCounter()
        with counting(counter):
            parts.whole_block(count)
        found.append(counter.total)
    return np.array(found, dtype=float)
