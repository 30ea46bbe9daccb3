"""Keep the best-ranked tokens of a block, the same number of each image or as many as a budget gives it."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vitrim.methods.budgets.counted_part import CountedPart
from vitrim.methods.budgets.fixed import kept_of
from vitrim.methods.reducers.varying import keep_chosen
from vitrim.network.parts import Reducer
from vitrim.tokens.attended import Attended
from vitrim.tokens.later import Later
from vitrim.tokens.state import Grouping, TokenState, regroup

if TYPE_CHECKING:
    from vitrim.methods.reducers.evit import EViT


def share_at(epoch: float, keep: float, warmup: tuple[float, float]) -> float:
    """The share of tokens kept after `epoch` epochs: 1 until `start`, then half a cosine down to `keep`."""
    start, epochs = warmup
    if epoch < start:
        return 1.0
    if epoch >= start + epochs:
        return keep
    return keep + (1 - keep) * (1 + math.cos(math.pi * (epoch - start) / epochs)) / 2


class KeepAttended(CountedPart, Reducer):
    """One block's EViT step.

    Attributes:
        stage: its place among the blocks of its method.
    """

    reads_masks = True  # masked tokens receive no attention, so they rank last
    masks_in_training = False  # it trains with the same number for all
    settings: "EViT"

    def __init__(self, settings: "EViT", vit: nn.Module, stage: int = 0) -> None:
        super().__init__()
        self.stage = stage
        self._backbone = (vit,)  # in a tuple: no second name for its weights
        self.adjust(settings)

    def adjust(self, settings: "EViT") -> None:
        """Work with other settings from now on."""
        self.settings = settings
        # A sum of weights below one would scale the projection's bias; a pool reads finished tokens
        self.commutes = settings.fuse != "sum" and settings.score != "pool"
        self.static = settings.budget == "fixed"
        self.takes_padding = not self.static
        self.takes_ragged = not self.static and settings.score != "pool"
        self.level = None if settings.levels is None else settings.levels[self.stage]
        self.keep = settings.shares()[self.stage]
        self.share = self.keep  # in training
        self.follow(0)

    def follow(self, epoch: float) -> None:
        """Set the share that training keeps from now on."""
        if self.settings.warmup is not None:
            self.share = share_at(epoch, self.keep, self.settings.warmup)

    def draw(self, share: float) -> None:
        """Where training draws its share for each step: take the one drawn, 0 to 1 of the range."""
        if self.settings.train_keep is not None:
            low, high = self.settings.train_keep
            self.share = low + (high - low) * share

    def kept(self, entering: int) -> int:
        """K, at least one token; with a budget per image, the mean it is calibrated to."""
        if self.assumed is not None and not self.training:
            kept = max(1, self.assumed - (self.settings.fuse != "drop"))
            return entering if self.assumed >= entering else kept
        return kept_of(entering, self.share if self.training else self.keep, self.settings.rounding)

    def leaving(self, entering: int) -> int:
        kept = self.kept(entering)
        return entering if kept >= entering else kept + (self.settings.fuse != "drop")

    def forward(self, state: TokenState, attended: Attended) -> TokenState:
        if not (self.static or self.training or state.tokens.is_meta):
            self.check_ready()
            scores = self.ranked(state, attended)
            return keep_chosen(state, scores, self.choose(scores), self.settings.fuse)
        kept = self.kept(state.count)
        if kept >= state.count:
            return state
        scores = self.ranked(state, attended) if not self.static else self.scores(state, attended)
        return regroup(state, keep_best(scores, kept, self.settings.fuse))

    def mean_kept(self, entering: int, start: int) -> int:
        return kept_of(entering, self.keep, self.settings.rounding)

    def ranked(self, state: TokenState, attended: Attended) -> Tensor:
        """What a budget counts by: scores, -1 for padding. [B, N]"""
        scores = self.scores(state, attended)
        if not self.static and self.rule().by_values:
            scores = scores * attended.value_lengths()
        return scores if state.keep is None else scores.masked_fill(state.keep == 0, -1)

    def scores(self, state: TokenState, attended: Attended) -> Tensor:
        """How much attention each patch gets, from whom the settings say. [B, N]"""
        from vitrim.backbones.heads import pool_attention

        if self.settings.score == "class":
            return attended.from_class_token()
        return (
            attended.received()
            if self.settings.score == "received"
            else pool_attention(self._backbone[0], state)
        )


def _slots(placed: Tensor, count: int, others: int) -> Tensor:
    """The new place of every one of `count` old tokens: those `placed` [B, K] in that order. [B, N]"""
    places = torch.arange(placed.shape[1], device=placed.device).expand_as(placed)
    return placed.new_full((placed.shape[0], count), others).scatter(1, placed, places)


def keep_best(scores: Tensor, kept: int, fuse: str) -> Grouping:
    """The reduction that keeps the `kept` best of [B, N] scores in descending order and fuses or drops the
    others.
    """
    lead = scores.topk(
        kept + (fuse != "drop"), dim=1
    ).indices  # [B, K] or [B, K+1], the best loser leads the fused token
    best = lead[:, :kept]  # [B, K]
    if fuse not in ("mean", "sum"):
        return Grouping(Later(_slots, lead, scores.shape[1], -1), lead)
    slots = Later(_slots, best, scores.shape[1], kept)
    weights = scores.clamp(min=torch.finfo(scores.dtype).tiny).scatter(
        1, best, 0.0
    )  # never all zero, so no 0 / 0
    if fuse == "mean":
        weights = weights / weights.sum(1, keepdim=True)
    return Grouping(slots, lead, fuse=weights)
