"""EViT: keep the tokens the class token attends to most, fuse the rest into one."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vitrim.attended import Attended
from vitrim.checks import block_indices, check_one_of, check_share
from vitrim.method import Method, option, settle
from vitrim.stage import Reducer
from vitrim.state import Grouping, TokenState, regroup

if TYPE_CHECKING:
    from vitrim.stage import StagedViT

ROUND = {"ceil": math.ceil, "floor": math.floor}


@dataclass(frozen=True, repr=False)
class EViT(Method):
    """Keep the most attended patch tokens in a few blocks and fuse the others (arXiv 2202.07800; Sparse-Tuning eq. 6-8).

    With a the class token's attention to the N patches (softmax over all tokens per head, then the mean over heads):

        K = ceil(keep N),  I = the K largest a,  x <- [prefix, x_I, sum_{j not in I} w_j x_j]

    Kept tokens stand in descending order of attention, the fused token last; at the next stage it competes like any other.
    On a 14x14 grid, keep=0.7 at blocks 3, 6, 9 (the 4th, 7th and 10th layer) leaves 197 -> 140 -> 100 -> 72 tokens.

    Attributes:
        keep: share of the patch tokens each of the blocks keeps, above 0 and at most 1; 1 changes nothing.
        at: indices of the blocks that reduce, counted from 0.
        fuse: what becomes of the others. "mean" (the papers): one token with w_j = a_j / sum of a over the others. "sum" (the
            released EViT and Sparse-Tuning code): w_j = a_j, not normalised. "argmax": the best of them. "drop": nothing.
        score: "class" ranks by the class token's attention; "received" by the attention a token receives from all tokens,
            for backbones without a class token.
        rounding: "ceil" (EViT) or "floor" (TR-PTS) of keep N.
    """

    keep: float = 0.7
    at: tuple[int, ...] = (3, 6, 9)
    fuse: str = option("mean")
    score: str = option("class")
    rounding: str = option("ceil")

    def __post_init__(self) -> None:
        check_share("EViT", "keep", self.keep)
        settle(self, "at", block_indices("EViT", self.at))
        check_one_of("EViT", "fuse", self.fuse, ("mean", "sum", "argmax", "drop"))
        check_one_of("EViT", "score", self.score, ("class", "received"))
        check_one_of("EViT", "rounding", self.rounding, tuple(ROUND))

    def attach(self, model: "StagedViT") -> None:
        if self.score == "class" and model.vit.cls_token is None:
            raise ValueError(f"{self}: the backbone has no class token to rank by; use score='received'")
        model.reduce_at(self.at, [KeepAttended(self) for _ in self.at], by=self)


class KeepAttended(Reducer):
    """One block's EViT step."""

    def __init__(self, settings: EViT) -> None:
        super().__init__()
        self.settings = settings
        self.commutes = settings.fuse != "sum"  # weights that do not sum to one would scale the projection's bias

    def kept(self, entering: int) -> int:
        """K, at least one token."""
        return max(1, ROUND[self.settings.rounding](self.settings.keep * entering))

    def leaving(self, entering: int) -> int:
        kept = self.kept(entering)
        return entering if kept >= entering else kept + (self.settings.fuse != "drop")

    def forward(self, state: TokenState, attended: Attended) -> TokenState:
        kept = self.kept(state.count)
        if kept >= state.count:
            return state
        scores = attended.from_class_token() if self.settings.score == "class" else attended.received()  # [B, N]
        return regroup(state, keep_best(scores, kept, self.settings.fuse))


def keep_best(scores: Tensor, kept: int, fuse: str) -> Grouping:
    """The reduction that keeps the `kept` best of [B, N] scores in descending order and fuses or drops the others."""
    lead = scores.topk(kept + (fuse != "drop"), dim=1).indices  # [B, K] or [B, K+1], the best loser leads the fused token
    best = lead[:, :kept]  # [B, K]
    fused = fuse in ("mean", "sum")
    slots = torch.full_like(scores, kept if fused else -1, dtype=torch.long)  # [B, N]
    placed = best if fused else lead
    slots = slots.scatter(1, placed, torch.arange(placed.shape[1], device=scores.device).expand_as(placed))
    if not fused:
        return Grouping(slots, lead)
    weights = scores.clamp(min=torch.finfo(scores.dtype).tiny).scatter(1, best, 0.0)  # never all zero, so no 0 / 0
    if fuse == "mean":
        weights = weights / weights.sum(1, keepdim=True)
    return Grouping(slots, lead, fuse=weights)
