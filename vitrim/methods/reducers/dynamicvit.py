"""DynamicViT: small predictors learn which tokens enter a block; the others are masked in training and
dropped afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.checks import block_indices, check_number, check_share
from vitrim.methods.budgets.chosen import Rule
from vitrim.methods.budgets.counted_part import CountedPart
from vitrim.methods.budgets.mass import MASS
from vitrim.methods.budgets.per_image import PerImage, check_budget
from vitrim.methods.budgets.threshold import PROBABLE
from vitrim.methods.reducers.keeping import keep_best
from vitrim.methods.reducers.masked import MaskedMixing, gumbel_noise, sample_keep
from vitrim.methods.reducers.varying import keep_chosen
from vitrim.network.method import Method, option, store_setting
from vitrim.network.parts import Selector
from vitrim.network.placing import mix_from
from vitrim.tokens.padded import in_a_batch
from vitrim.tokens.state import TokenState, at_least_float32, regroup

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

MIXING = MaskedMixing(epsilon=1e-6, itself=True)


@dataclass(frozen=True, repr=False)
class DynamicViT(PerImage):
    """Drop the patch tokens that learned predictors find dispensable (arXiv 2106.02034).

    Stage k = 1, 2, ... sits before block `at[k]` and scores the patches x that enter it, the prefix excluded:

        h = GELU(W LN x),  p = softmax(MLP[h_first half, mean of the kept tokens' h_second half]),  rho_k =
        keep^k

    In training no token leaves. A stage draws d = hard Gumbel-softmax(log p)[keep] times the decision before
    it, with straight-through gradients; every later block attends to a patch as far as it is kept (a dropped
    one still to itself), and the loss gains ratio_weight * mean over stages of mean over images of (kept
    share - rho_k)^2. In inference the int(N0 rho_k) best stay, in descending order; nothing is fused. For the
    same kept tokens both forms agree.

    A predictor has 961,730 parameters at D = 768, three of them 2,885,190. Its LayerNorm has epsilon 1e-5
    and the masked softmax 1e-6, in float32 or better (the release: float32 always). N0 is the current
    image's grid and the number of stages the model's, where the release assumes 196 and divides by the
    length of its loss's own default list. The release trains the whole backbone and distils it from the
    untouched one; here predictors, tuners and head train; `Training(teacher=...)` adds `distillation_loss`.

    **As many tokens as the picture needs.** With `budget` another than "fixed", every image keeps its own
    number of tokens in evaluation, by p[keep] of the patches there; `vitrim.fit` finds the levels at which
    the mean of some images is int(N0 rho_k) at every stage, and `vitrim.train` finds them again behind
    training, which stays as it is. See docs/adaptive.md.

        mass       the fewest of the largest p that hold a share `level` of all p
        threshold  every patch with p > `level`, the best where there is none

    Attributes:
        keep: share of the tokens each stage leaves of the stage before, above 0 and at most 1; or
            rho_k itself for each stage, such as (0.9, 0.7, 0.5), shares of the tokens at the start.
        at: indices of the blocks before which tokens are dropped, counted from 0.
        ratio_weight: weight of the ratio loss (the release: 2, for DeiT-B 5).
        budget: how many tokens an image keeps: "fixed", "mass" or "threshold".
        least, most: bounds on what an image keeps, as shares of its tokens before the stage, rounded up.
        levels: one for each stage, found by `vitrim.fit`.
    """

    rules: ClassVar[Mapping[str, Rule]] = {"mass": MASS, "threshold": PROBABLE}

    keep: float | tuple[float, ...] = 0.7
    at: tuple[int, ...] = (3, 6, 9)
    ratio_weight: float = option(2.0)
    budget: str = option("fixed")
    least: float = option(0.0)
    most: float = option(1.0)
    levels: tuple[float, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_setting(self, "at", block_indices("DynamicViT", self.at))
        if isinstance(self.keep, list):
            store_setting(self, "keep", tuple(self.keep))
        for share in self.keep if isinstance(self.keep, tuple) else (self.keep,):
            check_share("DynamicViT", "keep", share)
        self.ratios()  # refuses impossible ones
        check_number("DynamicViT", "ratio_weight", self.ratio_weight)
        if self.budget == "sampled":
            raise ValueError(
                "DynamicViT: budget='sampled' draws by attention times the length of values, and predictors "
                "stand before a block's attention; use 'mass' or 'threshold', or EViT(budget='sampled')"
            )
        check_budget(self)

    def ratios(self) -> tuple[float, ...]:
        """rho_k, the share of the tokens at the start that each stage leaves."""
        if not isinstance(self.keep, tuple):
            return tuple(self.keep ** (stage + 1) for stage in range(len(self.at)))
        if len(self.keep) != len(self.at) or list(self.keep) != sorted(self.keep, reverse=True):
            raise ValueError(
                f"DynamicViT: keep must be one share, or for each of the {len(self.at)} stages one that is "
                f"not above the one before, got {self.keep!r}"
            )
        return self.keep

    def shares(self) -> tuple[float, ...]:
        return tuple(own / before for before, own in pairwise((1.0, *self.ratios())))

    def first_blocks(self, count: int, depth: int) -> Method | None:
        kept = tuple(block for block in self.at if block < count)
        if not kept:
            return None
        keep = self.keep[: len(kept)] if isinstance(self.keep, tuple) else self.keep
        return replace(self, at=kept, keep=keep, levels=self.first_levels(len(kept)))

    def attach(self, model: "StagedViT") -> None:
        if model.width % 4:
            raise ValueError(f"{self}: predictors quarter the width, which {model.width} does not allow")
        if self.gives_levels(model):
            return
        like = next(model.vit.blocks[0].parameters())
        parts = [DropUnlikely(self, k, Predictor(model.width, like)) for k in range(len(self.at))]
        model.reduce_at(self.at, parts, by=self)
        mix_from(model, self.at[0], MIXING, by=self)


class Predictor(nn.Module):
    """Log-probabilities of (keep, drop) for every patch."""

    def __init__(self, width: int, like: Tensor) -> None:
        super().__init__()
        where: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.norm = nn.LayerNorm(width, eps=1e-5, **where)
        self.hidden = nn.Linear(width, width, **where)
        sizes = (width, width // 2, width // 4, 2)
        self.score = nn.ModuleList(nn.Linear(a, b, **where) for a, b in pairwise(sizes))

    def forward(self, patches: Tensor, kept: Tensor) -> Tensor:
        """From patches [B, N, D] and the decision before [B, N], log-probabilities [B, N, 2] in float32 or
        better.
        """
        own, shared = F.gelu(self.hidden(self.norm(patches))).chunk(2, dim=-1)  # [B, N, D/2] each
        weight = (kept / kept.sum(1, keepdim=True).clamp(min=0.5))[..., None].to(
            shared.dtype
        )  # all dropped: zeros
        mean = (shared * weight).sum(1, keepdim=True)
        x = torch.cat([own, mean.expand_as(own)], dim=-1)  # [B, N, D]
        x = self.score[2](F.gelu(self.score[1](F.gelu(self.score[0](x)))))
        return x.to(at_least_float32(x.dtype)).log_softmax(-1)


class DropUnlikely(CountedPart, Selector):
    """One stage: predictor, decision, and the loss that holds the decision to its ratio."""

    def __init__(self, settings: DynamicViT, stage: int, predictor: Predictor) -> None:
        super().__init__()
        self.predictor, self.stage = predictor, stage
        self.adjust(settings)
        self.noise = gumbel_noise  # a function of the log-probabilities; tests put a reproducible one here

    def adjust(self, settings: DynamicViT) -> None:
        """Work with other settings from now on."""
        self.settings: DynamicViT = settings
        self.ratio = settings.ratios()[self.stage]
        self.static = settings.budget == "fixed"
        self.takes_padding = self.takes_ragged = not self.static
        self.level = None if settings.levels is None else settings.levels[self.stage]

    def mean_kept(self, entering: int, start: int) -> int:
        return min(entering, max(1, int(start * self.ratio)))

    def leaving(self, entering: int, start: int) -> int:
        if self.assumed is not None and not self.training:
            return min(entering, max(1, self.assumed))
        return self.mean_kept(entering, start)

    def forward(self, state: TokenState) -> TokenState:
        if self.training:
            return self.mask(state, *self.predicted(state))
        if not (self.static or state.tokens.is_meta):
            self.check_ready()
            scores = self.ranked(in_a_batch(state))
            return keep_chosen(state, scores, self.choose(scores), "drop")
        before, log_probability = self.predicted(state)
        kept = self.leaving(state.count, state.started)
        if kept == state.count:
            return state
        ranked = log_probability[..., 0].masked_fill(before == 0, -torch.inf)  # padding goes first
        return regroup(state, keep_best(ranked, kept, "drop"))

    def predicted(self, state: TokenState) -> tuple[Tensor, Tensor]:
        """The decision before this one [B, N], and log-probabilities [B, N, 2]."""
        before = torch.ones_like(state.sizes) if state.keep is None else state.keep
        return before, self.predictor(state.tokens[:, state.prefix :], before)

    def ranked(self, state: TokenState) -> Tensor:
        """Probabilities to keep patches, -1 for padding. [B, N]"""
        before, log_probability = self.predicted(state)
        return log_probability[..., 0].exp().masked_fill(before == 0, -1)

    def mask(self, state: TokenState, before: Tensor, log_probability: Tensor) -> TokenState:
        """Training: the decision in `keep`, its distance from the ratio in `penalty`."""
        decision = sample_keep(log_probability, self.noise(log_probability)) * before
        share = decision.sum(1) / state.started  # of N0
        stages = len(self.settings.at)
        penalty = self.settings.ratio_weight * ((share - self.ratio) ** 2).mean() / stages
        return state.replaced(
            keep=decision, penalty=penalty if state.penalty is None else state.penalty + penalty
        )


class Distillation(NamedTuple):
    """The two parts of DynamicViT's distillation, unweighted."""

    logits: Tensor
    tokens: Tensor


def class_divergence(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """How far the class probabilities are from the teacher's, summed over classes, averaged over images."""
    student, teacher = F.log_softmax(logits, -1), F.log_softmax(teacher_logits, -1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def distillation_loss(
    logits: Tensor, features: Tensor, kept: Tensor, teacher_logits: Tensor, teacher_features: Tensor
) -> Distillation:
    """What DynamicViT adds to the loss to stay near the untouched backbone, each part times 0.5 in the
    release.

    logits = KL(student || teacher) of the classes, summed over classes and averaged over images; tokens =
    mean squared difference of the patch tokens that are still kept.

    Args:
        logits: [B, classes] of the model in training mode: `logits, state = model.run(images)`.
        features: its patch tokens after the final norm, [B, N, D].
        kept: the last decision, [B, N]: `state.keep`.
        teacher_logits, teacher_features: the same of the teacher.
    """
    still = (kept.detach() > 0.5).to(features.dtype)  # [B, N]
    distance = ((features - teacher_features) ** 2).mean(-1)  # [B, N]
    classes = class_divergence(logits, teacher_logits)
    return Distillation(classes, (distance * still).sum() / still.sum().clamp(min=1))
