"""LTMP: learned thresholds decide how many tokens each image may merge and prune, block by block."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from vitrim.checks import check_number, check_one_of, check_share
from vitrim.methods.reducers.ltmp_steps import (
    block_cost,
    decided,
    in_place,
    merge_slots,
    remove,
    with_one_left,
)
from vitrim.methods.reducers.masked import MaskedMixing, straight_through
from vitrim.methods.reducers.matching import unit
from vitrim.network.method import Method, option, spread, store_blocks
from vitrim.network.parts import Reducer
from vitrim.network.placing import mix_from, weigh_by_size_after
from vitrim.tokens.attended import Attended
from vitrim.tokens.state import TokenState, regroup, without_autocast

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

MIXING = MaskedMixing(epsilon=1e-5, itself=False)
STARTS = {"merge": 1.0, "both": 0.9}  # of the merging threshold; pruning starts at 0, where nothing is pruned


@dataclass(frozen=True, repr=False)
class LTMP(Method):
    """Merge tokens more similar, and prune tokens less attended to, than a learned threshold (arXiv
    2307.10780).

    In every block, after its attention, with k the unit-length head means of the keys, A and B the patches at
    even and odd places of the sequence, and g the attention a patch receives, averaged over heads and
    queries:

        merge   i in A joins its most similar j in B (mean by size, g_j = max)    if max_j k_i . k_j >
        theta_merge prune   what has not merged goes                                          unless g >
        theta_prune

    In training no token leaves: decisions are masks on later attention (`masked_softmax`, epsilon 1e-5),
    thresholds learn through their straight-through sigmoids of temperature `tau` and through budget_weight (c
    - budget)^2, where c is the share of the plain model's multiply-accumulates that the surviving tokens
    need. Merged tokens and sizes pass thresholds no gradient, and a token's gradient reaches only the last
    decision about it (both as released; with kind="both" a merging threshold so learns from the tokens that
    merge alone).

    **How many tokens leave depends on the image.** In inference a single image really loses its tokens; in a
    larger batch every image is padded to the one that keeps most, behind a key mask, so there is little or no
    speed-up, and `vitrim.costs` counts LTMP as if nothing were ever removed. It cannot be exported. The
    released training and inference graphs differ, and both are followed: training averages g over removed
    queries too and splits A from B over all slots, inference over survivors, so logits differ a little
    between the two. At least one patch always stays, where the release may lose all.

    Two thresholds in every block train, 24 parameters with 12 blocks; "merge" and "prune" have one each.

    With a class-token head, what the last block removes cannot change the logits: its thresholds learn from
    the budget alone, which the release accepts and so do we. `at` can leave that block out.

    Attributes:
        kind: "both", "merge" (LTM) or "prune" (LTP).
        budget: the share of multiply-accumulates to come down to, above 0 and at most 1.
        at: indices of the blocks that reduce, counted from 0; None is every block.
        tau: temperature of the decisions in training (the release: 0.1 in code, 0.5 in its training command).
        budget_weight: factor of the budget's loss.
    """

    reduces: ClassVar[bool] = True

    kind: str = "both"
    budget: float = 0.75
    at: tuple[int, ...] | None = option(None)
    tau: float = option(0.1)
    budget_weight: float = option(10.0)

    def __post_init__(self) -> None:
        check_one_of("LTMP", "kind", self.kind, ("both", "merge", "prune"))
        check_share("LTMP", "budget", self.budget)
        store_blocks(self)
        check_number("LTMP", "tau", self.tau)
        if self.tau <= 0:
            raise ValueError(f"LTMP: tau must be above 0, got {self.tau!r}")
        check_number("LTMP", "budget_weight", self.budget_weight)

    @classmethod
    def example(cls, model: "StagedViT") -> Self:
        """Two blocks: where all start to prune and merge at once, later thresholds decide nothing."""
        return cls(at=spread((4, 10), model.depth))

    def attach(self, model: "StagedViT") -> None:
        at = model.check_blocks(self.at, self)
        places = [(at[k - 1] if k else -1, at[k], model.depth, k == len(at) - 1) for k in range(len(at))]
        like = next(model.vit.blocks[0].parameters())
        model.reduce_at(at, [ThresholdStep(self, Place(*place), like) for place in places], by=self)
        mix_from(model, at[0], MIXING, by=self)
        if self.kind != "prune":
            weigh_by_size_after(model, at[0])


@dataclass(frozen=True)
class Place:
    """Where a step stands: the block of the step before it (-1 for none), its own, how many there are, if it
    is the last.
    """

    before: int
    block: int
    depth: int
    last: bool


class ThresholdStep(Reducer):
    """One block's merging and pruning."""

    reads_masks = True
    static = False
    has_penalty = True
    takes_padding = True

    def __init__(self, settings: LTMP, place: Place, like: Tensor) -> None:
        super().__init__()
        self.settings, self.place = settings, place
        where: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        if settings.kind != "prune":
            self.merge_above = nn.Parameter(torch.full((1,), STARTS[settings.kind], **where))
        if settings.kind != "merge":
            self.prune_below = nn.Parameter(torch.zeros(1, **where))

    def leaving(self, entering: int) -> int:
        """The most that may leave; how many do depends on the image."""
        return entering

    def forward(self, state: TokenState, attended: Attended) -> TokenState:
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            raise ValueError(f"{self.settings} cannot be exported: how many tokens stay depends on the image")
        keep = torch.ones_like(state.sizes) if state.keep is None else state.keep  # [B, N]
        entering = keep
        importance = attended.received()  # [B, N]
        grouping = in_place(keep)
        if self.settings.kind != "prune" and state.count > 1:  # one alone has nothing to merge with
            merged, partner = self.matches(attended.patch_keys(), keep, state.prefix)  # [B, A] each
            joins = (merged * keep[:, state.prefix % 2 :: 2]).detach().round()  # 1 or 0
            grouping, importance = merge_slots(joins, partner, importance, state.prefix)
            first, second = keep.gather(1, grouping.lead).split(
                [merged.shape[1], keep.shape[1] - merged.shape[1]], dim=1
            )
            keep = torch.cat(
                [decided(first, 1 - merged), second], dim=1
            )  # [B, N], in the new order from here on
        if self.settings.kind != "merge":
            keep = decided(keep, self.above(importance, self.prune_below))
        keep = with_one_left(keep, importance)
        if self.training:
            state = regroup(state, grouping).replaced(keep=keep)
            return self.account(state, entering, keep)
        return remove(state, grouping, keep, self.assumed)

    def matches(self, keys: Tensor, keep: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        """Whether each patch of A merges (1 or 0, with a gradient to the threshold), and its best match in B.
        [B, A] each
        """
        a, b = prefix % 2, 1 - prefix % 2
        with without_autocast(keys.device):
            scores = unit(keys[:, a::2]) @ unit(keys[:, b::2]).transpose(-2, -1)  # [B, A, B']
            scores = scores.masked_fill(keep[:, None, b::2] == 0, -torch.inf)
            best, partner = scores.max(-1)
        return self.above(best, self.merge_above), partner

    def above(self, scores: Tensor, threshold: Tensor) -> Tensor:
        """1 where scores exceed the threshold, which is held between 0 and 1; straight-through."""
        with torch.no_grad():
            within = threshold.clamp(0, 1)
            if self.training:
                threshold.copy_(within)  # the release does so after every step
        value = threshold if self.training else within
        return straight_through(((scores - value.to(scores.dtype)) / self.settings.tau).sigmoid())

    def account(self, state: TokenState, entering: Tensor, leaving: Tensor) -> TokenState:
        """Add what the blocks since the last step cost to `spent`; the last step turns it into the
        penalty.
        """
        tokens, width = state.prefix + state.started, state.tokens.shape[-1]
        before = (state.prefix + entering.sum(1).mean()) / tokens  # share of the tokens, the batch's mean
        after = (state.prefix + leaving.sum(1).mean()) / tokens
        whole = torch.ones_like(before)
        idle = self.place.block - self.place.before - 1
        spent = idle * block_cost(before, before, tokens, width) + block_cost(before, after, tokens, width)
        spent = spent if state.spent is None else state.spent + spent
        if not self.place.last:
            return state.replaced(spent=spent)
        spent = spent + (self.place.depth - 1 - self.place.block) * block_cost(after, after, tokens, width)
        share = spent / self.place.depth / block_cost(whole, whole, tokens, width)
        penalty = self.settings.budget_weight * (share - self.settings.budget) ** 2
        return state.replaced(
            spent=share, penalty=penalty if state.penalty is None else state.penalty + penalty
        )
