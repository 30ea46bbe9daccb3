"""Learning which tokens to remove: hard decisions with soft gradients, and attention under a mask.

While a pruner trains, no token leaves: the sequence keeps its length, `TokenState.keep` says which tokens
count, and attention gives the others no weight. Everything here is a function of its arguments; noise comes
from outside.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.tokens.state import TokenState, at_least_float32, without_autocast


def straight_through(soft: Tensor) -> Tensor:
    """1 where `soft` exceeds one half, else 0; backwards, the gradient of `soft`."""
    return soft + ((soft > 0.5).to(soft.dtype) - soft).detach()


def gumbel_noise(like: Tensor) -> Tensor:
    """-log(-log(u)) with u uniform on (0, 1), of the shape of `like`."""
    tiny = torch.finfo(like.dtype).tiny
    uniform = torch.rand_like(like).clamp(min=tiny)
    return -(-uniform.log()).clamp(min=tiny).log()


def sample_keep(log_probability: Tensor, noise: Tensor) -> Tensor:
    """A hard decision for every token from log p of (keep, drop) and Gumbel noise, both [B, N, 2] -> [B, N].

    softmax(log p + g) at temperature 1; forwards its arg-max, backwards its gradient.
    """
    soft = (log_probability + noise).softmax(-1)
    hard = (soft[..., 0] >= soft[..., 1]).to(soft.dtype)  # the first index wins a tie, as in arg-max
    return soft[..., 0] + (hard - soft[..., 0]).detach()


def masked_softmax(scores: Tensor, keep: Tensor, epsilon: float, itself: bool) -> Tensor:
    """Attention [B, H, R, T] from products `scores` of the first R tokens with all, where `keep` [B, T] is 1
    or 0:

        w_ij = exp(s_ij - max_j s_ij) pi_ij,  a_ij = (w_ij + epsilon / T) / (sum_j w_ij + epsilon)

    with pi_ij = keep_j, and 1 for i = j when masked tokens still attend to `itself`. The maximum runs over
    all tokens.
    """
    precise = at_least_float32(scores.dtype)
    scores, allowed = scores.to(precise), keep.to(precise)[:, None, None]  # [B, 1, 1, T]
    count = scores.shape[-1]
    if itself:
        diagonal = torch.eye(scores.shape[-2], count, dtype=precise, device=scores.device)
        allowed = allowed + (1 - allowed) * diagonal  # [B, 1, R, T]
    weights = (scores - scores.amax(-1, keepdim=True)).exp() * allowed
    return (weights + epsilon / count) / (weights.sum(-1, keepdim=True) + epsilon)


@dataclass(frozen=True)
class MaskedMixing:
    """Attention under `TokenState.keep`, in place of the fused kernel while a mask is learned; see
    `masked_softmax`.

    Attributes:
        epsilon: keeps rows finite that have nothing to attend to.
        itself: whether masked tokens attend to themselves.
    """

    epsilon: float
    itself: bool

    def __call__(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scale: float,
        bias: Tensor | None,
        state: TokenState,
    ) -> tuple[Tensor, Tensor]:
        """What the tokens receive [B, H, R, d], and the attention [B, H, R, T] in float32 or better."""
        precise = at_least_float32(queries.dtype)
        keep = torch.ones_like(state.sizes) if state.keep is None else state.keep
        keep = F.pad(keep, (state.prefix, 0), value=1.0)  # [B, T], the prefix always counts
        with without_autocast(queries.device):
            scores = (queries.to(precise) * scale) @ keys.to(precise).transpose(-2, -1)
            scores = scores if bias is None else scores + bias.to(precise)
            attention = masked_softmax(scores, keep, self.epsilon, self.itself)
            return (attention @ values.to(precise)).to(values.dtype), attention
