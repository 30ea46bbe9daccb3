"""The forward pass of a block: a `Stage` with its plug points. Read second."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from vitrim.backbones.blocks import (
    after_attention,
    after_mlp,
    attend_in,
    before_attention,
    before_mlp,
    mlp,
    project_attention,
    projects_linearly,
    shares_norm,
)
from vitrim.backbones.bridge import AttentionMixing
from vitrim.backbones.places import Places
from vitrim.backbones.support import TimmModule
from vitrim.network.parts import Branch as Branch
from vitrim.network.parts import Reducer as Reducer
from vitrim.network.parts import Scheduled as Scheduled
from vitrim.network.parts import Selector as Selector
from vitrim.network.side import SideStep
from vitrim.tokens.attended import Attended
from vitrim.tokens.padded import on_a_batch, reduce_by_size
from vitrim.tokens.state import SideState, TokenState


class Stage(nn.Module):
    """The plug points of one block and its forward pass. The timm block is an argument, so no parameter has
    two names."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: nn.Module | None = None  # (state) -> state, before the block
        self.beside_attention = nn.ModuleList()  # Branch each, added to the attention's residual
        self.after_mixing = nn.ModuleList()  # (block, mixed, attended) -> mixed, before the output projection
        self.after_attention = nn.ModuleList()  # (update) -> update, on what attention adds to the stream
        self.before: Selector | None = None
        self.reducer: Reducer | None = None
        self.beside_mlp = nn.ModuleList()  # Branch each, added to the MLP's residual
        self.after_mlp = nn.ModuleList()  # (update) -> update
        self.dispatch: nn.Module | None = None  # (block, state) -> (update, state), in place of norm and MLP
        self.proportional = False  # attention adds log(size) to the products with each key
        self.mixing: AttentionMixing | None = None  # in training: masks are learned
        self.aside = nn.ModuleList()  # SideStep each: it reads this stream and gives nothing back to it

    def forward(self, block: TimmModule, state: TokenState, places: Places, rows: int | None) -> TokenState:
        """Run one timm block with what is plugged in; with `rows`, only for the first `rows` tokens (last
        block)."""
        return self.leave(block, *self.enter(block, self.prepare(state), places, rows))

    def prepare(self, state: TokenState) -> TokenState:
        """What enters the block: prompts put in, tokens left out."""
        if self.prompts is not None:
            state = on_a_batch(self.prompts, state)
        selector = self.before
        if selector is None:
            return state
        if selector.takes_ragged:
            return cast("TokenState", selector(state))
        if selector.takes_padding:
            return on_a_batch(selector, state)
        return on_a_batch(lambda whole: reduce_by_size(lambda part, _: selector(part), whole), state)

    def enter(
        self, block: TimmModule, state: TokenState, places: Places, rows: int | None
    ) -> tuple[TokenState, Sequence[Tensor]]:
        """The first half, of what `prepare` gives: attention and reduction; with what the MLP will read of
        the tokens that are left, where it is there already."""
        dispatches = self.dispatch is not None and not state.complete
        learns = dispatches or (self.reducer is not None and self.reducer.has_penalty)
        if (self.training and learns) or any(branch.reads_all for branch in self._all("beside_mlp")):
            rows = None
        normed = before_attention(block, state.tokens)  # [B, T, D]
        mixing = self.mixing if self.training else None
        mixed, attended = attend_in(block, normed, state, places, self.proportional, rows, mixing)
        if state.attention is not None:
            state = state.replaced(attention=(*state.attention, attended.whole()))
        for change in self._all("after_mixing"):
            mixed = change(block, mixed, attended)
        if state.side:
            asked = state
            state = self._beside(state, lambda step, side: step.reading(block, asked, attended, side))
        if rows is not None:
            state, normed = state.first(rows), state.leading(normed, rows)
        reducer = self.reducer if rows is None else None  # nobody reads patches after the last attention
        after, beside = self._all("after_attention"), self._all("beside_attention")
        early = (
            reducer is not None
            and reducer.commutes
            and projects_linearly(block)
            and is_worth_moving(state.count, reducer.leaving(state.count))
            and state.history is None  # restoring adds what blocks changed to the tokens before a reduction
            and len(after) + len(beside) == 0  # `not` of a tuple with something in it is not compiled
        )
        # The MLP will read it, of the tokens that are left
        entered: Sequence[Tensor] = (normed,) if shares_norm(block) else ()
        if reducer is not None and early:
            state, (mixed, *entered) = _reduce_with(reducer, state, attended, mixed, *entered)
        update = after_attention(block, project_attention(block, mixed))
        state = self._add(state, normed, update, after, beside)
        if reducer is not None and not early:
            state, entered = _reduce_with(reducer, state, attended, *entered)
        return state, entered

    def leave(self, block: TimmModule, state: TokenState, entered: Sequence[Tensor]) -> TokenState:
        """The second half: the MLP."""
        beside_mlp = self._all("beside_mlp")
        if self.dispatch is not None:
            update, state = self.dispatch(block, state)
            read = any(branch.reads_norm for branch in beside_mlp)
            normed = before_mlp(block, state.tokens, *entered) if read else update
        else:
            normed = before_mlp(block, state.tokens, *entered)  # [B, P+M, D]
            update = after_mlp(block, mlp(block, normed))
        left = self._add(state, normed, update, self._all("after_mlp"), beside_mlp)
        return self._beside(left, lambda step, side: step.leaving(left, side)) if state.side else left

    def _all(self, name: str) -> Sequence[Any]:
        """The parts of one plug point: a tuple, because a `ModuleList` that is empty takes as long to look at
        as a small product."""
        parts = self._modules[name]
        assert parts is not None
        return tuple(parts._modules.values())

    def _beside(self, state: TokenState, advance: Callable[[SideStep, SideState], SideState]) -> TokenState:
        """The state after every side stream has made a step."""
        steps = zip(self.aside, state.side, strict=True)
        return state.replaced(side=tuple(advance(cast("SideStep", step), side) for step, side in steps))

    def _add(
        self, state: TokenState, normed: Tensor, update: Tensor, after: Sequence[Any], beside: Sequence[Any]
    ) -> TokenState:
        for change in after:
            update = change(update)
        tokens = state.tokens + update
        for branch in beside:
            added, state = branch(state, normed)
            tokens = tokens + added
        return state.replaced(tokens=tokens)


def is_worth_moving(entering: Any, leaving: Any) -> Any:
    """Whether so few of the patches that enter leave a block that not projecting the others is worth moving a
    second tensor; of numbers, or of arrays of them."""
    return 8 * (entering - leaving) >= entering


def _reduce_with(
    reducer: Reducer, state: TokenState, attended: Attended, *others: Tensor
) -> tuple[TokenState, Sequence[Tensor]]:
    """Reduce the tokens, and whatever else [B, T, C] belongs to them.

    With the attention's output, only survivors pass the output projection: the same up to rounding, because
    the projection is linear and nothing else reads its result; 2 % fewer products with EViT.
    """
    state = state.replaced(trail=(*others, *state.trail))
    if reducer.takes_ragged:
        state = reducer(state, attended)
    else:
        seen = attended.in_a_batch()
        run = reducer if reducer.takes_padding else partial(reduce_by_size, reducer)
        state = on_a_batch(lambda whole: run(whole, seen), state)
    return state.replaced(trail=state.trail[len(others) :]), state.trail[: len(others)]
