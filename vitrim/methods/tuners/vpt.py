"""VPT: trainable prompt tokens in the sequence."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from vitrim.backbones.geometry import patch_layer
from vitrim.checks import check_positive, check_probability
from vitrim.network.method import Method, option, store_blocks
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.backbones.support import TimmModule
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class VPT(Method):
    """Visual prompt tuning (arXiv 2203.12119): p trainable tokens P_i among the prefix tokens.

        shallow  Z_0 = [prefix, dropout(P_0), patches]
        deep     Z_i = [prefix_i, dropout(P_i), patches_i];  block i throws away what became of P_{i-1}

    Prompts enter after position embedding, stand behind the backbone's own prefix and have no place: rotary
    tables skip them, reducers never touch them, and they leave before the final norm, so that no head pools
    them. They start uniform within sqrt(6 / (c s^2 + D)), c s^2 being the values in one patch (ViT-B/16:
    0.0625), so the model does not start unchanged. D p parameters, deep L D p (ViT-B/16, p = 8: 73,728). Does
    not fold.

    As in the released code, whose optional projection from narrower prompts is not offered; the release keeps
    the backbone's own dropout off by keeping it in evaluation mode, here a backbone made without dropout has
    none.

    Attributes:
        prompts: p, how many.
        deep: fresh prompts for every block, or only before the first.
        dropout: on the prompts, while training (the release: 0.1 deep, 0 shallow).
        at: indices of the blocks that put in prompts of their own, counted from 0; None for all. What was put
            in last runs on as ordinary tokens to the end, as in NOAH. Needs deep=True.
    """

    starts_unchanged: ClassVar[bool] = False  # prompts are read from the first step on

    prompts: int = 8
    deep: bool = True
    dropout: float = option(0.0)
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        check_positive("VPT", "prompts", self.prompts)
        if not isinstance(self.deep, bool):
            raise ValueError(f"VPT: deep must be True or False, got {self.deep!r}")
        if self.at is not None and not self.deep:
            raise ValueError(
                f"VPT: deep=False puts prompts before the first block alone, but at={self.at!r} names "
                "blocks; leave one of the two out"
            )
        check_probability("VPT", "dropout", self.dropout)

    def attach(self, model: "StagedViT") -> None:
        at = model.check_blocks(self.at, self) if self.deep else (0,)
        for index in at:
            stage = model.stages[index]
            if stage.prompts is not None:
                raise ValueError(f"{self}: block {index} already has prompts; raise their number instead")
            stage.prompts = Prompts(model.vit, self)


class Prompts(nn.Module):
    """The prompts of one block: put in, in place of those of an earlier block if there are any."""

    def __init__(self, vit: "TimmModule", settings: VPT) -> None:
        super().__init__()
        like, patch = next(vit.parameters()), patch_layer(vit)
        inputs = vit.embed_dim if patch is None else patch.weight[0].numel()  # of the patch projection
        bound = math.sqrt(6 / (inputs + vit.embed_dim))
        start = torch.empty(settings.prompts, vit.embed_dim, device=like.device, dtype=like.dtype)
        self.prompts = nn.Parameter(nn.init.uniform_(start, -bound, bound))  # [p, D]
        self.dropout = nn.Dropout(settings.dropout)
        self.own = vit.num_prefix_tokens  # the backbone's; what stands behind them are prompts

    def forward(self, state: TokenState) -> TokenState:
        """[B, P+N, D] -> [B, P'+N, D]: p prompts behind the backbone's own prefix, and no others."""
        prompts = self.prompts.expand(state.tokens.shape[0], -1, -1)  # [B, p, D]
        return put_prompts(state, self.dropout(prompts), self.own)


def put_prompts(state: TokenState, prompts: Tensor, own: int) -> TokenState:
    """Prompts [p, D] or [B, p, D] behind the first `own` tokens, in place of the prompts that stand there."""
    prompts = prompts.expand(state.tokens.shape[0], -1, -1)  # [B, p, D]
    nothing = torch.zeros_like(prompts)
    return state.replaced(
        tokens=_insert(state.tokens, prompts, own, state.prefix),
        trail=tuple(_insert(earlier, nothing, own, state.prefix) for earlier in state.trail),
        prefix=own + prompts.shape[1],
    )


def _insert(tokens: Tensor, prompts: Tensor, start: int, stop: int) -> Tensor:
    """`prompts` in place of the tokens start..stop-1."""
    return torch.cat([tokens[:, :start], prompts.to(tokens.dtype), tokens[:, stop:]], dim=1)
