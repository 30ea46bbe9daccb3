"""EViT: keep the tokens the class token attends to most, fuse the rest into one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

from vitrim.checks import block_indices, check_one_of, check_positive, check_share, is_number
from vitrim.methods.selection.placement import PLACEMENTS, choose_blocks
from vitrim.network.method import Method, option, store_setting
from vitrim.network.parts import Reducer
from vitrim.tokens.attended import Attended
from vitrim.tokens.later import Later
from vitrim.tokens.state import Grouping, TokenState, regroup

if TYPE_CHECKING:
    from vitrim.methods.selection.scores import LabelledImages
    from vitrim.network.model import StagedViT

ROUND = {"ceil": math.ceil, "floor": math.floor}


@dataclass(frozen=True, repr=False)
class EViT(Method):
    """Keep the most attended patch tokens in a few blocks and fuse the others (arXiv 2202.07800;
    Sparse-Tuning eq. 6-8).

    With a the class token's attention to the N patches (softmax over all tokens per head, then the mean over
    heads):

        K = ceil(keep N),  I = the K largest a,  x <- [prefix, x_I, sum_{j not in I} w_j x_j]

    Kept tokens stand in descending order of attention, the fused token last; at the next stage it competes
    like any other. On a 14x14 grid, keep=0.7 at blocks 3, 6, 9 (the 4th, 7th and 10th layer) leaves 197 ->
    140 -> 100 -> 72 tokens.

    TR-PTS (arXiv 2507.22872) selects tokens the same way, in blocks of its choice:
    `EViT(keep=0.95, at="sparse", rounding="floor")` (its section 3.3; scores are the head mean of
    the scaled softmax over all tokens, as here, where its eq. 8 leaves that open).

    Attributes:
        keep: share of the patch tokens each of the blocks keeps, above 0 and at most 1; 1 changes nothing.
        at: indices of the blocks that reduce, counted from 0; or a rule by which `vitrim.fit` chooses them
            (TR-PTS, Table 5): "sparse", the blocks that hold the smallest share of the highest Fisher
            scores, "dense", the largest, "random", any.
        fuse: what becomes of the others. "mean" (the papers): one token with w_j = a_j / sum of a over the
            others. "sum" (the released EViT and Sparse-Tuning code): w_j = a_j, not normalised. "argmax": the
            best of them. "drop": nothing.
        score: what a is. "class": attention of the class token. "received": attention a token receives,
            averaged over all tokens, for backbones without a class token. "pool": what the backbone's
            attention pool (SigLIP, Perception Encoder) would give the tokens if they were the last ones.
        rounding: "ceil" (EViT) or "floor" (TR-PTS) of keep N.
        warmup: (start, epochs) of the released training schedule: everything is kept until epoch `start`,
            then the share falls from 1 to `keep` along a half cosine over `epochs`. Only training follows it,
            told by `set_progress`; evaluation always runs `keep`, where the release evaluates at the share
            training has reached. None: no schedule.
        blocks, first, apart: how many blocks a rule chooses, from which block on, and how far from each other
            at least. The paper gives no numbers; its pictures show three blocks, 3, 6 and 9.
        seed: of the rule "random".
    """

    reduces: ClassVar[bool] = True
    fits_late: ClassVar[bool] = True  # where to stand may depend on which weights train

    keep: float = 0.7
    at: tuple[int, ...] | str = (3, 6, 9)
    fuse: str = option("mean")
    score: str = option("class")
    rounding: str = option("ceil")
    warmup: tuple[float, float] | None = option(None)
    blocks: int = option(3)
    first: int = option(3)
    apart: int = option(2)
    seed: int = option(0)

    def __post_init__(self) -> None:
        check_share("EViT", "keep", self.keep)
        if isinstance(self.at, str):
            check_one_of("EViT", "at", self.at, PLACEMENTS)
            check_positive("EViT", "blocks", self.blocks)
            check_positive("EViT", "apart", self.apart)
            if not isinstance(self.first, int) or self.first < 0:
                raise ValueError(f"EViT: first must be a block index counted from 0, got {self.first!r}")
        else:
            store_setting(self, "at", block_indices("EViT", self.at))
        check_one_of("EViT", "fuse", self.fuse, ("mean", "sum", "argmax", "drop"))
        check_one_of("EViT", "score", self.score, ("class", "received", "pool"))
        check_one_of("EViT", "rounding", self.rounding, tuple(ROUND))
        if self.warmup is not None:
            check_warmup(self.warmup)
            store_setting(self, "warmup", tuple(self.warmup))

    @classmethod
    def example(cls, model: "StagedViT") -> Self:
        """Ranked by what the backbone has."""
        from vitrim.backbones.geometry import has_class_token
        from vitrim.backbones.heads import has_attention_pool

        others = "pool" if has_attention_pool(model.vit) else "received"
        return replace(super().example(model), score="class" if has_class_token(model.vit) else others)

    def attach(self, model: "StagedViT") -> None:
        from vitrim.backbones.geometry import has_class_token
        from vitrim.backbones.heads import has_attention_pool

        pools = has_attention_pool(model.vit)
        other = "'received'" if not pools else "'pool' or 'received'"
        if self.score == "class" and not has_class_token(model.vit):
            raise ValueError(f"{self}: the backbone has no class token to rank by; use score={other}")
        if self.score == "pool" and not pools:
            raise ValueError(
                f"{self}: the backbone has no attention pool to rank by; use 'class' or 'received'"
            )
        if isinstance(self.at, str):
            self._choose((0.0,) * model.depth)  # refused now if so many do not fit
            model.awaits = self
        else:
            model.reduce_at(self.at, [KeepAttended(self, model.vit) for _ in self.at], by=self)

    def _choose(self, found: Sequence[float]) -> tuple[int, ...]:
        return choose_blocks(found, str(self.at), self.blocks, self.first, self.apart, self.seed)

    @property
    def settled(self) -> bool:
        """Whether the blocks are known."""
        return not isinstance(self.at, str)

    @property
    def two_views(self) -> bool:
        """Scores are taken on single views."""
        return False

    def fit(self, model: "StagedViT", batches: "LabelledImages") -> "EViT":
        """Choose the blocks by how many of the backbone's top weights each holds, and stand on them."""
        from vitrim.methods.selection.shares import block_shares

        found = (0.0,) * model.depth if self.at == "random" else block_shares(model, batches, self)
        placed = replace(self, at=self._choose(found), blocks=3, first=3, apart=2, seed=0)
        model.awaits = None
        placed.attach(model)
        return placed


def check_warmup(value: object) -> None:
    """Refuse anything but (start, epochs), both numbers of at least 0."""
    pair = tuple(value) if isinstance(value, tuple | list) else ()
    if len(pair) != 2 or not all(is_number(number) and number >= 0 for number in pair):
        raise ValueError(f"EViT: warmup must be (start, epochs), both at least 0, got {value!r}")


def share_at(epoch: float, keep: float, warmup: tuple[float, float]) -> float:
    """The share of tokens kept after `epoch` epochs: 1 until `start`, then half a cosine down to `keep`."""
    start, epochs = warmup
    if epoch < start:
        return 1.0
    if epoch >= start + epochs:
        return keep
    return keep + (1 - keep) * (1 + math.cos(math.pi * (epoch - start) / epochs)) / 2


class KeepAttended(Reducer):
    """One block's EViT step."""

    reads_masks = True  # masked tokens receive no attention, so they rank last

    def __init__(self, settings: EViT, vit: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        # A sum of weights below one would scale the projection's bias; a pool reads finished tokens
        self.commutes = settings.fuse != "sum" and settings.score != "pool"
        self.share = settings.keep  # in training
        self._backbone = (vit,)  # in a tuple: no second name for its weights
        self.follow(0)

    def follow(self, epoch: float) -> None:
        """Set the share that training keeps from now on."""
        if self.settings.warmup is not None:
            self.share = share_at(epoch, self.settings.keep, self.settings.warmup)

    def kept(self, entering: int) -> int:
        """K, at least one token."""
        share = self.share if self.training else self.settings.keep
        return max(1, ROUND[self.settings.rounding](share * entering))

    def leaving(self, entering: int) -> int:
        kept = self.kept(entering)
        return entering if kept >= entering else kept + (self.settings.fuse != "drop")

    def forward(self, state: TokenState, attended: Attended) -> TokenState:
        kept = self.kept(state.count)
        if kept >= state.count:
            return state
        return regroup(state, keep_best(self.scores(state, attended), kept, self.settings.fuse))

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
