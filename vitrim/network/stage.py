"""The forward pass: one `Stage` per block with its plug points, and `StagedViT`, the model users hold. Read
second."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitrim.backbones.bridge import (
    AttentionMixing,
    after_attention,
    after_mlp,
    attend,
    embed,
    project_attention,
)
from vitrim.backbones.heads import classify, features, rows_read_by_head
from vitrim.backbones.opening import Digests, Origin
from vitrim.backbones.preprocess import Preprocess
from vitrim.backbones.sites import Site, sites
from vitrim.backbones.support import TimmModule
from vitrim.network.parts import Branch as Branch
from vitrim.network.parts import Reducer as Reducer
from vitrim.network.parts import Scheduled as Scheduled
from vitrim.network.parts import Selector as Selector
from vitrim.network.placing import place
from vitrim.tokens.attended import Attended
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.network.method import Method


class Stage(nn.Module):
    """The plug points of one block and its forward pass. The timm block is an argument, so no parameter has
    two names."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: nn.Module | None = None  # (state) -> state, before the block
        self.beside_attention = nn.ModuleList()  # Branch each, added to the attention's residual
        self.after_attention = nn.ModuleList()  # (update) -> update, on what attention adds to the stream
        self.before: Selector | None = None
        self.reducer: Reducer | None = None
        self.beside_mlp = nn.ModuleList()  # Branch each, added to the MLP's residual
        self.after_mlp = nn.ModuleList()  # (update) -> update
        self.dispatch: nn.Module | None = None  # (block, state) -> (update, state), in place of norm and MLP
        self.proportional = False  # attention adds log(size) to the products with each key
        self.mixing: AttentionMixing | None = None  # in training: masks are learned

    def forward(
        self, block: TimmModule, state: TokenState, rotary: Tensor | None, rows: int | None
    ) -> TokenState:
        """Run one timm block with what is plugged in; with `rows`, only for the first `rows` tokens (last
        block)."""
        dispatches = self.dispatch is not None and not state.complete
        learns = dispatches or (self.reducer is not None and self.reducer.has_penalty)
        if (self.training and learns) or any(branch.reads_all for branch in self.beside_mlp):
            rows = None
        if self.prompts is not None:
            state = self.prompts(state)
        if self.before is not None:
            state = self.before(state)
        normed = block.norm1(state.tokens)  # [B, T, D]
        mixing = self.mixing if self.training else None
        mixed, attended = attend(block.attn, normed, state, rotary, self.proportional, rows, mixing)
        if rows is not None:
            state, normed = state.first(rows), normed[:, :rows]
        reducer = self.reducer if rows is None else None  # nobody reads patches after the last attention
        early = (
            reducer is not None
            and reducer.commutes
            and state.history is None  # restoring adds what blocks changed to the tokens before a reduction
            and not self.after_attention
            and not self.beside_attention
        )
        if reducer is not None and early:
            state, mixed = _reduce_first(reducer, state, mixed, attended)
        update = after_attention(block, project_attention(block.attn, mixed))
        state = self._add(state, normed, update, self.after_attention, self.beside_attention)
        if reducer is not None and not early:
            state = reducer(state, attended)
        if self.dispatch is not None:
            update, state = self.dispatch(block, state)
            normed = block.norm2(state.tokens) if any(b.reads_norm for b in self.beside_mlp) else update
        else:
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
        shared: by method name, what several blocks read and only one place may own (FacT's factors).
        methods: what was attached, in order; `repr` of each is what is saved.
        preprocess: image size, mean, standard deviation and interpolation the backbone expects.
        classes: names of the classes, None until trained or set.
        origin: where the backbone came from.
        awaits: a reducer whose blocks have yet to be chosen by data; until then the model refuses to run.
        base_names: names of the backbone's own weights in the state dict.
        own_layers: owner, name and layer of every site before anything was attached, for `vitrim.swap`.
        first_values: of backbone weights that `vitrim.swap` wrote over, by name.
        digests: of the backbone's weights, so that none is read twice.
    """

    def __init__(self, vit: TimmModule, preprocess: Preprocess, origin: Origin) -> None:
        super().__init__()
        self.vit: TimmModule = vit
        self.stages = cast("Sequence[Stage]", nn.ModuleList(Stage() for _ in vit.blocks))
        self.shared = nn.ModuleDict()
        self.methods: tuple[Method, ...] = ()
        self.preprocess = preprocess
        self.classes: tuple[str, ...] | None = None
        self.checkpointing = False
        self.awaits: Method | None = None
        self.origin = origin
        self.base_names = frozenset(f"vit.{name}" for name in vit.state_dict())
        self.own_layers = tuple((site.owner, site.name, site.layer) for site in sites(vit))
        self.first_values: dict[str, Tensor] = {}
        self.digests: Digests = {}

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, channels, height, width]. The last block computes only what the
        head reads."""
        return self.forward_with_penalty(images)[0]

    def forward_with_penalty(self, images: Tensor, complete: bool = False) -> tuple[Tensor, Tensor | None]:
        """Logits, and what learned reducers and dispatchers add to the loss (None where nothing does).

        `complete` runs every MLP on every token, whatever a dispatcher would skip.
        """
        state = self._advance(images, rows_read_by_head(self.vit), complete)
        return classify(self.vit, state), state.penalty

    def run(self, images: Tensor, history: bool = False) -> tuple[Tensor, TokenState]:
        """Logits and the whole state after the last block, before the final norm; with `history`, what every
        reduction did is kept for `vitrim.restore`."""
        state = self._advance(images, None, history=history)
        return classify(self.vit, state), state

    def read_by_head(self, images: Tensor) -> Tensor:
        """What the classifier reads, before its dropout or normalisation. [B, D]"""
        return features(self.vit, self._advance(images, rows_read_by_head(self.vit)))

    def _advance(
        self, images: Tensor, rows: int | None, complete: bool = False, history: bool = False
    ) -> TokenState:
        if self.awaits is not None and not images.is_meta:
            raise ValueError(
                f"{self.awaits}: the blocks are not chosen yet; call vitrim.fit(model, batches) with "
                "training images first (vitrim.train does), or name the blocks"
            )
        embedded = embed(self.vit, images)
        state = TokenState.start(embedded.tokens, self.vit.num_prefix_tokens, embedded.grid)
        state = replace(state, complete=complete, history=() if history else None)
        last = len(self.stages) - 1
        for index, (stage, block) in enumerate(zip(self.stages, self.vit.blocks, strict=True)):
            arguments = (block, state, embedded.rotary[index], rows if index == last else None)
            if self.checkpointing and torch.is_grad_enabled():
                state = checkpoint(stage, *arguments, use_reentrant=False)
            else:
                state = stage(*arguments)
        return state.without_prompts(self.vit.num_prefix_tokens) if rows is None else state

    def set_progress(self, epoch: float) -> None:
        """Tell every part with a schedule how many epochs of training are done; a training loop calls this at
        the start of each epoch."""
        for module in self.modules():
            if isinstance(module, Scheduled):
                module.follow(epoch)

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

    def reduce_at(self, at: Sequence[int], parts: Sequence[Reducer | Selector], by: "Method") -> None:
        """Put one reducer on each of the blocks `at`; see `vitrim.placing` for what is refused."""
        place(self, at, parts, by)

    @property
    def patch_count(self) -> int:
        """N0, the patches of an image of the size the backbone was built for."""
        rows, columns = self.vit.patch_embed.grid_size
        return rows * columns

    def check_blocks(self, at: Sequence[int], by: "Method") -> tuple[int, ...]:
        """The block indices, refused in a sentence when the backbone has no such block."""
        for index in at:
            if not 0 <= index < self.depth:
                raise ValueError(
                    f"{by}: there is no block {index}; the backbone has blocks 0 to {self.depth - 1}"
                )
        return tuple(at)
