"""`StagedViT`, the model users hold: a timm backbone, a `Stage` for each of its blocks, its features."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitrim.backbones.embedding import embed
from vitrim.backbones.geometry import grid_size, has_class_token, keep_statistics, prefix_count
from vitrim.backbones.heads import classify, features, last_tokens, rows_read_by_head
from vitrim.backbones.opening import Digests, Origin
from vitrim.backbones.packed import Images
from vitrim.backbones.places import Places
from vitrim.backbones.preprocess import Preprocess
from vitrim.backbones.sites import Site, sites
from vitrim.backbones.support import TimmModule
from vitrim.checks import check_one_of
from vitrim.network.budgeting import set_budget
from vitrim.network.bypassed import refuse_unseen_hooks
from vitrim.network.executions import EXECUTIONS, pass_all
from vitrim.network.features import block_indices, check_form, intermediates
from vitrim.network.notebook import summary_html
from vitrim.network.packed import check_takes_packed
from vitrim.network.parts import Branch as Branch
from vitrim.network.parts import Reducer as Reducer
from vitrim.network.parts import Scheduled as Scheduled
from vitrim.network.parts import Selector as Selector
from vitrim.network.placing import place
from vitrim.network.side import SideStream
from vitrim.network.stage import Stage
from vitrim.network.target_scale import TargetScale
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.network.method import Method


class StagedViT(nn.Module):
    """A timm Vision Transformer with a composition of methods on it. Made by `vitrim.compose`.

    Attributes:
        vit: the timm model; its parameters keep timm's names under `vit.`.
        stages: one `Stage` for each of its blocks.
        shared: by method name, what several blocks read and only one place may own (FacT's factors; of
            several FacT the second's stand under FacT_2).
        methods: what was attached, in order; `repr` of each is what is saved.
        preprocess: image size, mean, standard deviation and interpolation the backbone expects.
        classes: names of the classes, None until trained or set.
        task: what the outputs are: logits of classes ("classify") or of labels ("multilabel"), or scaled
            numbers ("regress").
        scale: of numbers to predict, how outputs become values; None otherwise.
        origin: where the backbone came from.
        by_products: reductions are matrix products, for engines that cannot scatter (export).
        execution: how images that keep different counts run in one batch in evaluation: "packed", one after
            the other in one row; "bucketed", in at most four sub-batches of like counts; "padded" to the
            longest behind a mask; "measured", whichever was fastest on the first batch of its shape;
            "automatic", packed on a CPU and in sub-batches elsewhere.
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
        self.task = "classify"
        self.scale: TargetScale | None = None
        self.checkpointing = False
        self.by_products = False
        self.execution = "automatic"
        self.faster: dict[tuple[object, ...], str] = {}  # what was measured
        self.awaits: Method | None = None
        self.origin = origin
        self.base_names = frozenset(f"vit.{name}" for name in vit.state_dict())
        self.own_layers = tuple((site.owner, site.name, site.layer) for site in sites(vit))
        self.first_values: dict[str, Tensor] = {}
        self.digests: Digests = {}

    def forward(self, images: Images) -> Tensor:
        """Logits [B, classes] of images [B, channels, height, width], or for NaFlexViT of timm's packed
        patches of images of many sizes. The last block computes only what the head reads."""
        return self.forward_with_penalty(images)[0]

    def forward_with_penalty(self, images: Images, complete: bool = False) -> tuple[Tensor, Tensor | None]:
        """Logits, and what learned reducers and dispatchers add to the loss (None where nothing does).

        `complete` runs every MLP on every token, whatever a dispatcher would skip.
        """
        state = self._advance(images, self.rows_read(), complete)
        return self.classify(state), state.penalty

    def run(
        self, images: Images, history: bool = False, attention: bool = False
    ) -> tuple[Tensor, TokenState]:
        """Logits and the whole state after the last block, before the final norm; with `history`, what every
        reduction did is kept for `vitrim.restore`, with `attention`, what every block attended to is in
        `state.attention`: one [B, H, T, T] for each block, of the T tokens that entered it."""
        state = self._advance(images, None, history=history, attention=attention)
        return self.classify(state), state

    def forward_features(self, images: Images) -> Tensor:
        """The tokens left after the last block and the final norm, as timm's: [B, P+N, D]"""
        return last_tokens(self.vit, self._finished(self._advance(images, None)))[0]

    def forward_intermediates(
        self,
        images: Images,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        restore: str = "delta",
    ) -> Any:
        """What blocks gave, and the final features: timm's call, for tuned and reduced models.

        Args:
            indices: which blocks, by index or the last so many; None for all.
            return_prefix_tokens: also give the prefix tokens, as (map, prefix [B, P, D]).
            norm: put the final norm on each.
            output_fmt: "NCHW" for maps [B, D, rows, columns], "NLC" for tokens [B, N0, D].
            intermediates_only: leave out the final features.
            restore: how patches that were reduced come back, "delta", "copy" or "knn" (see
                `vitrim.restore`); "tokens" gives the [B, N, D] that are left, with "NLC".
        """
        check_form(output_fmt, restore)
        wanted = block_indices(indices, self.depth)
        states: list[TokenState] = []
        last = self._advance(images, None, history=True, states=states)
        found = intermediates(
            self, [states[index] for index in wanted], output_fmt, restore, norm, return_prefix_tokens
        )
        return found if intermediates_only else (last_tokens(self.vit, self._finished(last))[0], found)

    def get_intermediate_layers(
        self,
        images: Images,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        restore: str = "delta",
    ) -> list[Any]:
        """The last `n` blocks' patches, or those of the blocks named, as timm and DINOv2 give them: [B, N0,
        D], with `reshape` [B, D, rows, columns]."""
        found: list[Any] = self.forward_intermediates(
            images, n, return_prefix_tokens, norm, "NCHW" if reshape else "NLC", True, restore
        )
        return found

    def read_by_head(self, images: Images) -> Tensor:
        """What the classifier reads, before its dropout or normalisation. [B, D]"""
        return self._features(self._advance(images, self.rows_read()))

    @property
    def side(self) -> SideStream | None:
        """The side stream whose end the head reads, where a method has put one beside the blocks."""
        return next((part for part in self.shared.values() if isinstance(part, SideStream)), None)

    def rows_read(self) -> int | None:
        """How many tokens of the last block are needed, None for all of them."""
        side = self.side
        return rows_read_by_head(self.vit) if side is None or side.reads_last else 1

    def classify(self, state: TokenState) -> Tensor:
        """Logits [B, classes] of the state after the last block."""
        side = self.side
        return classify(self.vit, state) if side is None else side.classify(self.vit, state, state.side[0])

    def _features(self, state: TokenState) -> Tensor:
        side = self.side
        return features(self.vit, state) if side is None else side.features(self.vit, state, state.side[0])

    def _finished(self, state: TokenState) -> TokenState:
        return state if self.side is None else self.side.finish(state, state.side[0])

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`read_by_head` and the logits of one pass. [B, D], [B, classes]"""
        state = self._advance(images, self.rows_read())
        return self._features(state), self.classify(state)

    def _advance(
        self,
        images: Images,
        rows: int | None,
        complete: bool = False,
        history: bool = False,
        attention: bool = False,
        states: list[TokenState] | None = None,
    ) -> TokenState:
        state, places = self.begin(images, history)
        state = state.replaced(
            complete=complete,
            history=() if history else None,
            attention=() if attention else None,
        )
        state = pass_all(self, state, places, rows, states)
        return state.without_prompts(self.prefix) if rows is None else state

    def begin(self, images: Images, history: bool = False) -> tuple[TokenState, list[Places]]:
        """The state before the first block, and what each block's attention is told about places."""
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):  # tracers hook every module
            refuse_unseen_hooks(self.vit)
        if not isinstance(images, Tensor):
            check_takes_packed(self, history)
        if self.awaits is not None and not (isinstance(images, Tensor) and images.is_meta):
            raise ValueError(
                f"{self.awaits}: the blocks are not chosen yet; call vitrim.fit(model, batches) with "
                "training images first (vitrim.train does), or name the blocks"
            )
        embedded = embed(self.vit, images)
        state = embedded.start(prefix_count(self.vit))
        side = () if self.side is None else (self.side.start(state),)
        return state.replaced(by_products=self.by_products, side=side), embedded.places

    def pass_blocks(
        self,
        state: TokenState,
        places: list[Places],
        blocks: range,
        rows: int | None,
        states: list[TokenState] | None = None,
    ) -> TokenState:
        """The state after some of the blocks; the last block of all computes only `rows`, if given. The
        state after each is added to `states`."""
        last = self.depth - 1
        for index in blocks:
            stage, block = self.stages[index], self.vit.blocks[index]
            arguments = (block, state, places[index], rows if index == last else None)
            if self.checkpointing and torch.is_grad_enabled():
                state = checkpoint(stage, *arguments, use_reentrant=False)
            else:
                state = stage(*arguments)
            if states is not None:
                states.append(state.without_prompts(self.prefix))
        return state

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return summary_html(self)

    def train(self, mode: bool = True) -> "StagedViT":
        """As in every module, but that a hybrid's stem keeps its running statistics."""
        super().train(mode)
        keep_statistics(self.vit)
        return self

    def set_progress(self, epoch: float) -> None:
        """Tell every part with a schedule how many epochs of training are done; a training loop calls this at
        the start of each epoch."""
        for module in self.modules():
            if isinstance(module, Scheduled):
                module.follow(epoch)

    def set_budget(self, share: float) -> None:
        """Keep another share of the tokens from now on; `vitrim.fit` follows where images keep their own
        number of tokens."""
        set_budget(self, share)

    def set_execution(self, execution: str) -> None:
        """How batches of images that keep different counts run; see `execution`."""
        check_one_of("set_execution", "execution", execution, EXECUTIONS)
        self.execution = execution

    def set_gradient_checkpointing(self, on: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.checkpointing = on

    def sites(self) -> Iterator[Site]:
        """The layers methods can act on, by role; see `vitrim.backbones.sites`."""
        return sites(self.vit)

    def sites_in(self, at: Sequence[int] | None, by: "Method") -> Iterator[Site]:
        """The sites of the blocks `at`; for None all, those before and after the blocks too."""
        blocks = self.check_blocks(at, by)
        return (site for site in self.sites() if at is None or site.block in blocks)

    def trained(self) -> dict[str, nn.Parameter]:
        """What trains, by name. This set is the checkpoint."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def alone(self) -> nn.Module:
        """The backbone as it runs without vitrim, to compare with: timm's own model."""
        return self.vit

    def behind_blocks(self) -> tuple[nn.Module, ...]:
        """What trains behind the blocks and reads what they give: the classifiers."""
        head = self.vit.get_classifier()
        return tuple(head) if isinstance(head, tuple) else (head,)

    def take_parts(self, other: "StagedViT", plugged: bool = True) -> None:
        """Take over what was made for another model on the same backbone; with `plugged`, what methods
        plugged into its blocks too."""
        if plugged:
            self.stages, self.shared = other.stages, other.shared

    def plain(self) -> "StagedViT":
        """The backbone alone, on the same weights: no reducers, no branches."""
        return StagedViT(self.vit, self.preprocess, self.origin)

    def keep_stages(self, count: int) -> None:
        """Forget the blocks behind the first `count`, which were taken out of the backbone."""
        self.stages = cast("Sequence[Stage]", nn.ModuleList(list(self.stages)[:count]))
        left = set(self.vit.modules())
        self.own_layers = tuple(each for each in self.own_layers if each[0] in left)
        self.base_names = self.base_names & {f"vit.{name}" for name in self.vit.state_dict()}

    def share(self, part: nn.Module, by: "Method") -> None:
        """Own what several blocks read for a method; a second method of its kind adds a part of its own."""
        count = len(self.shared_by(type(by)))
        self.shared[f"{type(by).__name__}_{count + 1}" if count else type(by).__name__] = part

    def shared_by(self, kind: type) -> list[str]:
        """The names under which the methods of one kind share parts."""
        numbered = re.compile(rf"{kind.__name__}(_\d+)?")
        return [key for key in self.shared if numbered.fullmatch(key)]

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
        """Put one reducer on each of the blocks `at`; see `vitrim.network.placing` for what is refused."""
        place(self, at, parts, by)

    def put_beside(self, stream: SideStream, by: "Method") -> None:
        """Give the model a side stream, whose end the head reads from now on; its steps go to
        `Stage.aside`."""
        if self.side is not None:
            standing = next(name for name, part in self.shared.items() if part is self.side)
            raise ValueError(f"{by}: the head already reads the side stream of {standing}; leave out one")
        self.shared[type(by).__name__] = stream

    @property
    def grid(self) -> tuple[int, ...]:
        """Rows and columns of the patches of an image of the size the backbone was built for."""
        return grid_size(self.vit)

    @property
    def patch_count(self) -> int:
        """N0, how many those are."""
        return math.prod(self.grid)

    @property
    def prefix(self) -> int:
        """P, the tokens before the patches, without prompts."""
        return prefix_count(self.vit)

    @property
    def has_class_token(self) -> bool:
        """Whether the first token in the blocks is a class token."""
        return has_class_token(self.vit)

    def input_shape(self, size: tuple[int, int] | None = None) -> tuple[int, ...]:
        """The shape of what it classifies: an image [channels, height, width], here."""
        return self.preprocess.channels, *(self.preprocess.image_size if size is None else size)

    def check_blocks(self, at: Sequence[int] | None, by: "Method") -> tuple[int, ...]:
        """The block indices, all for None; refused in a sentence when the backbone has no such block."""
        at = range(self.depth) if at is None else at
        for index in at:
            if not 0 <= index < self.depth:
                raise ValueError(
                    f"{by}: there is no block {index}; the backbone has blocks 0 to {self.depth - 1}"
                )
        return tuple(at)
