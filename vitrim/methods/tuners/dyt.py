"""DyT: patches learn to skip the MLP, and an adapter serves them all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.nn import functional as F

from vitrim.checks import check_number, check_one_of, check_positive, check_probability, check_share
from vitrim.methods.tuners.adapter import Adapter, Beside, Bottleneck
from vitrim.methods.tuners.experts import Experts
from vitrim.network.method import Method, option, store_blocks
from vitrim.tokens.state import TokenState, at_least_float32

if TYPE_CHECKING:
    from vitrim.backbones.support import TimmModule
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class DyT(Method):
    """Dynamic tuning (arXiv 2403.11808): in every block each patch decides whether its MLP runs for it.

        x'' = x' + m FFN(LN2 x') + s Up dropout(ReLU(Down x')),      m = 1[w x' + b > 0], 1 for prefix tokens

    No token leaves the sequence, so it is a tuner and goes with any reducer. In training m is noisy and
    straight through: forwards 1[y > 0.5], backwards y = sigmoid((w x' + b + g1 - g2) / 5), g Gumbel noise;
    the loss gains 2 (mean m - rate)^2, the mean over images, patches and blocks. `vitrim.train` adds, as the
    release, the cross-entropy of the complete model, which skips nothing, and the divergence from it, by a
    second forward pass (`complete_model_loss`). In inference only the picked tokens are gathered, normed and
    run through the MLP, over the whole batch at once: the MLP acts on each token alone, so images may pick
    different numbers, exactly. Compiled and exported models compute the masked form: the same result with
    shapes that are known before the image, without the saving. Costs count the share `rate`.

    Routers start at a normal of deviation 0.02, adapters silent; about half of the patches pass at the start,
    so the model does not start unchanged. AdaptFormer's parameters and L (D + 1) for the routers (ViT-B/16,
    width 8: 165,996). With several experts (the paper's MoE adapter, never released, so unverified) the
    adapters' weights and biases are mixed for each image by softmax(W mean of x' + b), or with mix="outputs"
    what they give is mixed for each token by softmax(W x' + b); N AdaptFormers and L (N D + N) either way.

    Attributes:
        width: of the adapter's bottleneck.
        rate: share of the patches the MLP should run for.
        scale: s (the paper: 1 on VTAB-1K, 0.1 on full data sets).
        dropout: in the adapter, while training (the release: 0.1).
        temperature: of the noisy decision.
        weight: of the penalty on the rate.
        complete: weight of the complete model's losses; 0 spares training the second forward pass.
        experts: adapters in each block.
        mix: "weights" mixes the experts' weights, one share an image; "outputs" mixes what each of them
            gives, one share a token, at N times the adapter's operations.
        at: indices of the blocks that have it, counted from 0; None for all.
    """

    starts_unchanged: ClassVar[bool] = False  # half of the MLPs are skipped

    width: int = 8
    rate: float = 0.5
    scale: float = option(1.0)
    dropout: float = option(0.0)
    temperature: float = option(5.0)
    weight: float = option(2.0)
    complete: float = option(1.0)
    experts: int = option(1)
    mix: str = option("weights")
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        check_positive("DyT", "width", self.width)
        check_share("DyT", "rate", self.rate)
        check_number("DyT", "scale", self.scale)
        check_probability("DyT", "dropout", self.dropout)
        check_number("DyT", "weight", self.weight)
        check_number("DyT", "complete", self.complete)
        if self.complete < 0:
            raise ValueError(f"DyT: complete must be 0 or above, got {self.complete!r}")
        check_number("DyT", "temperature", self.temperature)
        if self.temperature <= 0:
            raise ValueError(f"DyT: temperature must be above 0, got {self.temperature!r}")
        check_positive("DyT", "experts", self.experts)
        check_one_of("DyT", "mix", self.mix, ("weights", "outputs"))

    def attach(self, model: StagedViT) -> None:
        from vitrim.backbones.blocks import shares_norm

        if any(shares_norm(block) for block in model.vit.blocks):
            raise ValueError(
                f"{self}: the MLP of this backbone runs beside attention, on the same norm, so a router that "
                "reads what attention gave comes too late; use Adapter, or a backbone whose MLP comes after"
            )
        adapter = Adapter(self.width, self.scale, dropout=self.dropout)
        if any(stage.dispatch is not None for stage in model.stages):
            raise ValueError(f"{self}: the model already has dispatchers; their rate is one for all blocks")
        at = model.check_blocks(self.at, self)
        for index in at:
            stage, like = model.stages[index], next(model.vit.blocks[index].parameters())
            stage.dispatch = Dispatcher(model.width, self, like, last=index == at[-1])
            if self.experts == 1:
                stage.beside_mlp.append(Beside(Bottleneck(model.width, adapter, like)))
            else:
                stage.beside_mlp.append(Experts(model.width, self, like))


def complete_model_loss(
    model: StagedViT, images: Tensor, labels: Tensor, logits: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """What DyT adds to the loss of the dispatching model's `logits`: a second forward pass that skips
    nothing.

    CE(complete model) + KL between the class probabilities of both, to which the complete model is a
    constant.
    """
    complete, _ = model.forward_with_penalty(images, complete=True)
    target = complete.detach().float().log_softmax(-1)
    divergence = F.kl_div(logits.float().log_softmax(-1), target, reduction="batchmean", log_target=True)
    return F.cross_entropy(complete.float(), labels, label_smoothing=label_smoothing) + divergence


class Dispatcher(nn.Module):
    """Runs a block's second norm and MLP for all prefix tokens and the patches its router picks."""

    def __init__(self, width: int, settings: DyT, like: Tensor, last: bool) -> None:
        super().__init__()
        self.router = nn.Linear(width, 1, device=like.device, dtype=like.dtype)
        nn.init.trunc_normal_(self.router.weight, std=0.02)
        nn.init.zeros_(self.router.bias)
        self.settings, self.last = settings, last

    def forward(self, block: TimmModule, state: TokenState) -> tuple[Tensor, TokenState]:
        """What the MLP adds to the stream [B, T, D], and the state with the patches it ran for."""
        if state.complete or state.count == 0:
            return _mlp(block, state.tokens), state
        logits = self.router(state.tokens[:, state.prefix :]).squeeze(-1)  # [B, N]
        logits = logits.to(at_least_float32(logits.dtype))
        if self.training:
            passes = noisy_decision(logits, self.settings.temperature)
            state = state.replaced(dispatched=(*state.dispatched, passes))
            state = self._penalised(state) if self.last else state
            return _masked_mlp(block, state, passes), state
        passes = logits > 0
        state = state.replaced(dispatched=(*state.dispatched, passes))
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return _masked_mlp(block, state, passes), state
        if logits.is_meta or isinstance(logits, FakeTensor):
            return _mlp_of_rows(block, state, self._nominal_rows(state)), state
        rows = F.pad(passes, (state.prefix, 0), value=True).flatten().nonzero().squeeze(1)  # [K]
        return _mlp_of_rows(block, state, rows), state

    def _penalised(self, state: TokenState) -> TokenState:
        share = torch.stack([passes.mean() for passes in state.dispatched]).mean()
        penalty = self.settings.weight * (share - self.settings.rate) ** 2
        return state.replaced(penalty=penalty if state.penalty is None else state.penalty + penalty)

    def _nominal_rows(self, state: TokenState) -> Tensor:
        """As many rows as should pass; which ones does not matter to a count."""
        picked = state.prefix + math.ceil(self.settings.rate * state.count)
        return torch.arange(len(state.tokens) * picked, device=state.tokens.device)


def noisy_decision(logits: Tensor, temperature: float) -> Tensor:
    """Hard 0/1 forwards, the gradient of the noisy sigmoid backwards. The difference of two Gumbel draws is
    logistic.
    """
    noise = torch.logit(torch.rand_like(logits), eps=1e-6)
    soft = ((logits + noise) / temperature).sigmoid()
    return soft + ((soft > 0.5).to(soft.dtype) - soft).detach()


def _mlp(block: TimmModule, tokens: Tensor) -> Tensor:
    from vitrim.backbones.blocks import after_mlp, before_mlp, mlp

    return after_mlp(block, mlp(block, before_mlp(block, tokens)))


def _masked_mlp(block: TimmModule, state: TokenState, passes: Tensor) -> Tensor:
    """The MLP for every token, counted only where `passes` [B, N] is 1."""
    update = _mlp(block, state.tokens)
    return update * F.pad(passes.to(update.dtype), (state.prefix, 0), value=1.0)[..., None]


def _mlp_of_rows(block: TimmModule, state: TokenState, rows: Tensor) -> Tensor:
    """The MLP for some rows of the flattened batch only, zero elsewhere. [K] -> [B, T, D]"""
    flat = state.tokens.flatten(0, 1)  # [B*T, D]
    update = _mlp(block, flat.index_select(0, rows))
    return update.new_zeros(flat.shape).index_copy(0, rows, update).view(state.tokens.shape)
