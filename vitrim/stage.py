"""The forward pass: one `Stage` per block with its plug points, and `StagedViT`, the model users hold. Read
second."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitrim.attended import Attended
from vitrim.backbones import Origin
from vitrim.preprocess import Preprocess
from vitrim.sites import Site, sites
from vitrim.state import TokenState
from vitrim.timm_bridge import (
    Mixing,
    after_attention,
    after_mlp,
    attend,
    classify,
    embed,
    project_attention,
    rows_read_by_head,
)

if TYPE_CHECKING:
    from vitrim.methods import Method


class Reducer(nn.Module):
    """Makes the sequence shorter between attention and MLP. Subclasses define `forward` and `leaving`."""

    # Decides by attention or place alone and only averages tokens: it may run before the output projection.
    commutes = True

    def forward(self, state: TokenState, attended: Attended) -> TokenState:
        """The state after the reduction."""
        raise NotImplementedError

    def leaving(self, entering: int) -> int:
        """How many patch tokens leave when `entering` enter: a Python integer, known before the image is."""
        raise NotImplementedError

    def matching_macs(self, prefix: int, entering: int, width: int, head_width: int) -> int:
        """What papers count for choosing and applying the reduction: P, N, D and d in, multiply-accumulates out.

        Everything that runs inside `forward` (predictors and refiners too) is left to this declaration by
        `vitrim.costs(...).gmacs_paper`; zero where scores come free with unfused attention. `.gmacs` counts what runs instead.
        """
        return 0


class Branch(nn.Module):
    """Computes something beside attention or MLP that is added to their result."""

    def forward(self, state: TokenState, normed: Tensor) -> tuple[Tensor, TokenState]:
        """From the tokens before the norm (in `state`) and after it, what to add [B, T, D], and the state
        with the trail."""
        raise NotImplementedError


class Stage(nn.Module):
    """The plug points of one block and its forward pass. The timm block is an argument, so no parameter has
    two names."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: nn.Module | None = None  # (state) -> state, before the block
        self.beside_attention = nn.ModuleList()  # Branch each, added to the attention's residual
        self.after_attention = nn.ModuleList()  # (update) -> update, on what attention adds to the stream
        self.reducer: Reducer | None = None
        self.beside_mlp = nn.ModuleList()  # Branch each, added to the MLP's residual
        self.after_mlp = nn.ModuleList()  # (update) -> update
        self.proportional = False  # attention adds log(size) to the products with each key
        self.mixing: Mixing | None = None  # other means than fused attention, while a mask is learned

    def forward(
        self, block: nn.Module, state: TokenState, rotary: Tensor | None, rows: int | None
    ) -> TokenState:
        """Run one timm block with what is plugged in; with `rows`, only for the first `rows` tokens (last
        block)."""
        if self.prompts is not None:
            state = self.prompts(state)
        normed = block.norm1(state.tokens)  # [B, T, D]
        mixed, attended = attend(block.attn, normed, state, rotary, self.proportional, rows, self.mixing)
        if rows is not None:
            state, normed = state.first(rows), normed[:, :rows]
        reducer = self.reducer if rows is None else None  # nobody reads patches after the last attention
        early = (
            reducer is not None
            and reducer.commutes
            and not self.after_attention
            and not self.beside_attention
        )
        if reducer is not None and early:
            state, mixed = _reduce_first(reducer, state, mixed, attended)
        update = after_attention(block, project_attention(block.attn, mixed))
        state = self._add(state, normed, update, self.after_attention, self.beside_attention)
        if reducer is not None and not early:
            state = reducer(state, attended)
        normed = block.norm2(state.tokens)  # [B, P+M, D]
        update = after_mlp(block, block.mlp(normed))
        return self._add(state, normed, update, self.after_mlp, self.beside_mlp)

    def _add(
        self, state: TokenState, normed: Tensor, update: Tensor, after: nn.ModuleList, beside: nn.ModuleList
    ) -> TokenState:
        for change in after:
            update = change(update)
        tokens = state.tokens + update
        for branch in beside:
            added, state = branch(state, normed)
            tokens = tokens + added
        return replace(state, tokens=tokens)


def _reduce_first(
    reducer: Reducer, state: TokenState, mixed: Tensor, attended: Attended
) -> tuple[TokenState, Tensor]:
    """Reduce tokens and attention output together, so that only survivors pass the output projection.

    The same up to rounding, because the projection is linear and nothing else reads its result; 2 % fewer
    products with EViT.
    """
    state = reducer(replace(state, trail=(mixed, *state.trail)), attended)
    return replace(state, trail=state.trail[1:]), state.trail[0]


class StagedViT(nn.Module):
    """A timm Vision Transformer with a composition of methods on it. Made by `vitrim.compose`.

    Attributes:
        vit: the timm model; its parameters keep timm's names under `vit.`.
        stages: one `Stage` for each of its blocks.
        methods: what was attached, in order; `repr` of each is what is saved.
        preprocess: image size, mean, standard deviation and interpolation the backbone expects.
        classes: names of the classes, None until trained or set.
        origin: where the backbone came from.
        base_names: names of the backbone's own weights in the state dict.
    """

    def __init__(self, vit: nn.Module, preprocess: Preprocess, origin: Origin) -> None:
        super().__init__()
        self.vit = vit
        self.stages = nn.ModuleList(Stage() for _ in vit.blocks)
        self.methods: tuple[Method, ...] = ()
        self.preprocess = preprocess
        self.classes: tuple[str, ...] | None = None
        self.checkpointing = False
        self.origin = origin
        self.base_names = frozenset(f"vit.{name}" for name in vit.state_dict())

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, channels, height, width]. The last block computes only what the
        head reads."""
        return self.forward_with_penalty(images)[0]

    def forward_with_penalty(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and what learned reducers add to the loss (None where nothing does)."""
        state = self._advance(images, rows_read_by_head(self.vit))
        return classify(self.vit, state), state.penalty

    def run(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Logits and the whole state after the last block, before the final norm."""
        state = self._advance(images, None)
        return classify(self.vit, state), state

    def _advance(self, images: Tensor, rows: int | None) -> TokenState:
        embedded = embed(self.vit, images)
        state = TokenState.start(embedded.tokens, self.vit.num_prefix_tokens, embedded.grid)
        last = len(self.stages) - 1
        for index, (stage, block) in enumerate(zip(self.stages, self.vit.blocks, strict=True)):
            arguments = (block, state, embedded.rotary[index], rows if index == last else None)
            if self.checkpointing and torch.is_grad_enabled():
                state = checkpoint(stage, *arguments, use_reentrant=False)
            else:
                state = stage(*arguments)
        return state.without_prompts(self.vit.num_prefix_tokens) if rows is None else state

    def set_gradient_checkpointing(self, on: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.checkpointing = on

    def sites(self) -> Iterator[Site]:
        """The layers methods can act on, by role; see `vitrim.sites`."""
        return sites(self.vit)

    def trained(self) -> dict[str, nn.Parameter]:
        """What trains, by name. This set is the checkpoint."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.stages)

    @property
    def width(self) -> int:
        """D, the width of a token."""
        return self.vit.embed_dim

    @property
    def num_classes(self) -> int:
        """Outputs of the head, 0 for a backbone without one."""
        return self.vit.num_classes

    def reduce_at(self, at: Sequence[int], reducers: Sequence[Reducer], by: "Method") -> None:
        """Put one reducer on each of the blocks `at`, refusing blocks that do not exist or have one."""
        for index, reducer in zip(self.check_blocks(at, by), reducers, strict=True):
            if self.stages[index].reducer is not None:
                raise ValueError(f"{by}: block {index} already has a reducer; one per block")
            self.stages[index].reducer = reducer

    def check_blocks(self, at: Sequence[int], by: "Method") -> tuple[int, ...]:
        """The block indices, refused in a sentence when the backbone has no such block."""
        for index in at:
            if not 0 <= index < self.depth:
                raise ValueError(
                    f"{by}: there is no block {index}; the backbone has blocks 0 to {self.depth - 1}"
                )
        return tuple(at)
