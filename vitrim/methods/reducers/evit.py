"""EViT: keep the tokens the class token attends to most, fuse the rest into one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vitrim.checks import block_indices, check_one_of, check_positive, check_share, is_number
from vitrim.methods.budgets import RULES
from vitrim.methods.budgets.chosen import Rule
from vitrim.methods.budgets.fixed import ROUND
from vitrim.methods.budgets.per_image import PerImage, check_budget
from vitrim.methods.reducers.keeping import KeepAttended as KeepAttended
from vitrim.methods.reducers.keeping import keep_best as keep_best
from vitrim.methods.reducers.keeping import share_at as share_at
from vitrim.methods.selection.placement import PLACEMENTS, choose_blocks
from vitrim.network.method import Method, option, store_setting

if TYPE_CHECKING:
    from vitrim.methods.selection.scores import LabelledImages
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class EViT(PerImage):
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

    **As many tokens as the picture needs.** With `budget` another than "fixed", every image keeps its own
    number of tokens in evaluation; `vitrim.fit` finds the levels at which the mean of some images is that of
    the fixed share, K at every block, and writes them into `levels`. Training keeps the fixed share of all.

        mass       K = the fewest of the largest a that hold a share `level` of all a
        threshold  K = how many a_i exceed `level` times the mean of a
        sampled    the a_i |v_i| at `level` evenly spaced quantiles, each once (ATS, arXiv 2111.15667, as
                   released), v_i the token's values of all heads

    Images of a batch run packed in one row, in sub-batches or padded behind a mask: see docs/adaptive.md.

    Attributes:
        keep: share of the patch tokens each of the blocks keeps, above 0 and at most 1; 1 changes nothing.
            Or one share for each block, in their order.
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
        budget: how many tokens an image keeps: "fixed", "mass", "threshold" or "sampled".
        least, most: bounds on what an image keeps, as shares of its tokens, rounded up.
        levels: one for each block, found by `vitrim.fit`.
        train_keep: (low, high), a range from which training draws the share of every step, the same for all
            blocks, so that one set of weights serves many budgets: see `model.set_budget`. None: `keep`.
    """

    rules: ClassVar[Mapping[str, Rule]] = RULES

    keep: float | tuple[float, ...] = 0.7
    at: tuple[int, ...] | str = (3, 6, 9)
    fuse: str = option("mean")
    score: str = option("class")
    rounding: str = option("ceil")
    warmup: tuple[float, float] | None = option(None)
    blocks: int = option(3)
    first: int = option(3)
    apart: int = option(2)
    seed: int = option(0)
    budget: str = option("fixed")
    least: float = option(0.0)
    most: float = option(1.0)
    levels: tuple[float, ...] | None = option(None)
    train_keep: tuple[float, float] | None = option(None)

    def __post_init__(self) -> None:
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
        check_keep(self)
        check_budget(self)
        if self.train_keep is not None:
            _check_range(self)

    @property
    def count(self) -> int:
        """In how many blocks it stands."""
        return self.blocks if isinstance(self.at, str) else len(self.at)

    def shares(self) -> tuple[float, ...]:
        """The share that each of its blocks keeps, of all images or in the mean."""
        return self.keep if isinstance(self.keep, tuple) else (self.keep,) * self.count

    def first_blocks(self, count: int, depth: int) -> "Method | None":
        if isinstance(self.at, str):
            return self
        kept = tuple(block for block in self.at if block < count)
        if not kept:
            return None
        keep = self.keep[: len(kept)] if isinstance(self.keep, tuple) else self.keep
        return replace(self, at=kept, keep=keep, levels=self.first_levels(len(kept)))

    @classmethod
    def example(cls, model: "StagedViT") -> Self:
        """Ranked by what the backbone has."""
        from vitrim.backbones.heads import has_attention_pool

        others = "pool" if has_attention_pool(model.vit) else "received"
        return replace(super().example(model), score="class" if model.has_class_token else others)

    def attach(self, model: "StagedViT") -> None:
        from vitrim.backbones.heads import has_attention_pool

        pools = has_attention_pool(model.vit)
        other = "'received'" if not pools else "'pool' or 'received'"
        if self.score == "class" and not model.has_class_token:
            raise ValueError(f"{self}: the model has no class token to rank by; use score={other}")
        if self.score == "pool" and not pools:
            raise ValueError(
                f"{self}: the backbone has no attention pool to rank by; use 'class' or 'received'"
            )
        if isinstance(self.at, str):
            self._choose((0.0,) * model.depth)  # refused now if so many do not fit
            model.awaits = self
        elif not self.gives_levels(model):
            parts = [KeepAttended(self, model.vit, stage) for stage in range(self.count)]
            model.reduce_at(self.at, parts, by=self)

    def _choose(self, found: Sequence[float]) -> tuple[int, ...]:
        return choose_blocks(found, str(self.at), self.blocks, self.first, self.apart, self.seed)

    @property
    def settled(self) -> bool:
        """Whether the blocks and the levels are known."""
        return not isinstance(self.at, str) and super().settled

    @property
    def by_classes(self) -> bool:
        """Whether it chooses by the loss of classes: where to stand, unless by chance."""
        return isinstance(self.at, str) and self.at != "random"

    def fit(self, model: "StagedViT", batches: "LabelledImages") -> "EViT":
        """Choose the blocks, by how many of the backbone's top weights each holds, and the levels, by what
        images need; stand on them."""
        placed_one = self._placed(model, batches) if isinstance(self.at, str) else self
        return placed_one if placed_one.settled else placed_one.calibrated(model, batches)

    def _placed(self, model: "StagedViT", batches: "LabelledImages") -> "EViT":
        from vitrim.methods.selection.shares import block_shares

        found = (0.0,) * model.depth if self.at == "random" else block_shares(model, batches, self)
        placed_one = replace(self, at=self._choose(found), blocks=3, first=3, apart=2, seed=0)
        model.awaits = None
        placed_one.attach(model)
        return placed_one


def check_keep(method: EViT) -> None:
    """Refuse shares outside (0, 1], or not one for each block."""
    if isinstance(method.keep, list | tuple):
        store_setting(method, "keep", tuple(method.keep))
    for share in method.shares():
        check_share("EViT", "keep", share)
    if len(method.shares()) != method.count:
        raise ValueError(
            f"EViT: keep must be one share, or one for each of the {method.count} blocks, got {method.keep!r}"
        )


def _check_range(method: EViT) -> None:
    given: Any = method.train_keep
    pair = tuple(given) if isinstance(given, list | tuple) else ()
    if len(pair) != 2 or not all(is_number(each) for each in pair) or not 0 < pair[0] <= pair[1] <= 1:
        raise ValueError(f"EViT: train_keep must be (low, high), shares above 0 and at most 1, got {given!r}")
    store_setting(method, "train_keep", pair)
    if method.warmup is not None:
        raise ValueError("EViT: train_keep and warmup both say what training keeps; leave out one of them")


def check_warmup(value: object) -> None:
    """Refuse anything but (start, epochs), both numbers of at least 0."""
    pair = tuple(value) if isinstance(value, tuple | list) else ()
    if len(pair) != 2 or not all(is_number(number) and number >= 0 for number in pair):
        raise ValueError(f"EViT: warmup must be (start, epochs), both at least 0, got {value!r}")
