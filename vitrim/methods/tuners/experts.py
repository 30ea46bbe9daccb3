"""Several adapters in one place, mixed for each image or for each token (DyT's MoE adapter)."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.network.parts import Branch
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.methods.tuners.dyt import DyT


class Experts(Branch):
    """N bottlenecks beside the MLP and a router, whose shares say how much of each an image or a token gets.

    "weights": alpha = softmax(router(mean of the tokens)), one share for each image, and one adapter with the
    weights and biases sum_e alpha_e W_e. The mean weighs every token by its size.
    "outputs": alpha = softmax(router(x)), a share for each token, and sum_e alpha_e adapter_e(x), N times the
    work.
    """

    def __init__(self, width: int, settings: "DyT", like: Tensor) -> None:
        super().__init__()
        count, hidden = settings.experts, settings.width
        where: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.down = nn.Parameter(torch.empty(count, hidden, width, **where))  # [E, r, D]
        self.down_bias = nn.Parameter(torch.zeros(count, hidden, **where))
        self.up = nn.Parameter(torch.zeros(count, width, hidden, **where))  # [E, D, r]
        self.up_bias = nn.Parameter(torch.zeros(count, width, **where))
        router = nn.Linear(width, count, **where)
        nn.init.trunc_normal_(router.weight, std=0.02)
        nn.init.zeros_(router.bias)
        self.reads_all = settings.mix == "weights"
        if self.reads_all:
            self.router = router
        else:  # another name than when it took one share an image: those files must not be read as these
            self.token_router = router
        self.dropout = nn.Dropout(settings.dropout)
        self.scale = settings.scale
        for matrix in self.down:
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))

    def forward(self, state: TokenState, normed: Tensor) -> tuple[Tensor, TokenState]:
        if self.reads_all:
            added = self._mix_weights(state.tokens, self.shares(state))
        else:
            added = self._mix_outputs(state.tokens)
        return added * self.scale, state

    def shares(self, state: TokenState) -> Tensor:
        """alpha of each image, [B, E]"""
        weights = F.pad(state.sizes, (state.prefix, 0), value=1.0)  # [B, T]
        weights = (weights / weights.sum(1, keepdim=True)).to(state.tokens.dtype)
        mean = (weights[:, None] @ state.tokens).squeeze(1)  # [B, D]
        return self.router(mean).softmax(-1)

    def _mix_weights(self, tokens: Tensor, shares: Tensor) -> Tensor:
        down, up = (
            torch.einsum("be,erd->bdr", shares, self.down),
            torch.einsum("be,edr->brd", shares, self.up),
        )
        hidden = torch.relu(tokens @ down + (shares @ self.down_bias)[:, None])  # [B, T, r]
        return self.dropout(hidden) @ up + (shares @ self.up_bias)[:, None]

    def _mix_outputs(self, tokens: Tensor) -> Tensor:
        shares = self.token_router(tokens).softmax(-1)  # [B, T, E]
        hidden = torch.relu(torch.einsum("btd,erd->bter", tokens, self.down) + self.down_bias)
        mixed = self.dropout(hidden) * shares[..., None]  # the up maps are linear, so shares may come before
        outputs = torch.einsum("bter,edr->btd", mixed, self.up)
        return outputs + shares @ self.up_bias
