"""SynQT: queries beside a frozen backbone ask every block, and the head reads what they gathered."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from vitrim.checks import check_number, check_one_of, check_positive, check_probability
from vitrim.methods.tuners.synqt_parts import ResidualMap, SelfQuery, norm_like, unread_weights
from vitrim.network.method import Method, option, store_blocks
from vitrim.network.side import SideStep, SideStream
from vitrim.tokens.attended import Attended
from vitrim.tokens.state import SideState, TokenState

if TYPE_CHECKING:
    from vitrim.backbones.support import TimmModule
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class SynQT(Method):
    """Synthesised query tuning (arXiv 2407.06964): queries of their own read a frozen backbone.

    With Q_i [q, D] trained in every block, A_r(z) = z + W2 gelu(W1 z) of r hidden channels, x the patch
    stream, which runs frozen and untouched, and qbar, h, g the means over the queries of z'', of what the
    attention gives and of what the MLP gives:

        z   = A_48(Q_i + f qbar_{i-1}),    z <- z + a SA(LN z),    z <- z + m A_48(LN z)
        z'  = z + Attn(query LN1 z; keys and values of LN1 x),    z'' = z' + FFN(LN2 z')
        F   = [qbar_L, qbar_1, h_1, g_1, .., qbar_L, h_L, g_L],    F_j <- F_j + A_48(LN F_j)
        w_1 = 1,  w_j = tanh(gelu(M F_1)),    logits = head(LN mean of w_j F_j)

    SA is attention of one head among the queries, its query, key, value and output maps A_8, with norms of
    its own. The scales a, f and m train too. Q starts uniform in -1..1, maps as linear layers do, the last
    norm as a copy of the backbone's final one, so the model does not start unchanged.

    The backbone's weights and its stream need no gradient: kept for the backward pass are q tokens a block,
    and its patches once, of which keys and values are made again. Nothing else may train inside the backbone
    (refused); reducers without weights make the keys fewer, whose sizes then count. Of the last block only
    keys and values are computed. Does not fold. 2,595,181 + 9,216 q parameters (ViT-B/16, q = 4: 2,632,045).
    The release holds and counts 18,469 more that nothing reads (a norm in each block, a vector in the head):
    `follows="release"` has them, for its 2,622,866 at q = 1. With one query the self-attention has nothing to
    choose from, so its query and key maps stay where they start. The release takes 12 blocks of 768 channels
    alone; average and attention pools are not used here, and tokens merged or padded count as in the block's
    own attention.

    Attributes:
        queries: q (the release: 1, 4 or 16 by task).
        attention_scale: a at the start (by task 0.1 or 1), as the next two.
        feature_scale: f at the start.
        mlp_scale: m at the start.
        hidden: channels inside A_48.
        attention_hidden: channels inside A_8.
        dropout: on queries, self-attention and inside A_48 and M, while training (the release: 0.1).
        at: indices of the blocks that are asked, counted from 0; None for all.
        drop_features: share of the F_j, j > 1, left out while training (the release: 0.3).
        follows: "paper" or "release", see above.
    """

    starts_unchanged: ClassVar[bool] = False  # another head input altogether

    queries: int = 4
    attention_scale: float = option(0.1)
    feature_scale: float = option(0.1)
    mlp_scale: float = option(0.1)
    hidden: int = option(48)
    attention_hidden: int = option(8)
    dropout: float = option(0.0)
    drop_features: float = option(0.0)
    follows: str = option("paper")
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        for name in ("queries", "hidden", "attention_hidden"):
            check_positive("SynQT", name, getattr(self, name))
        for name in ("attention_scale", "feature_scale", "mlp_scale"):
            check_number("SynQT", name, getattr(self, name))
        for name in ("dropout", "drop_features"):
            check_probability("SynQT", name, getattr(self, name))
        check_one_of("SynQT", "follows", self.follows, ("paper", "release"))

    def attach(self, model: "StagedViT") -> None:
        from vitrim.backbones.blocks import can_answer

        asked = model.check_blocks(self.at, self)
        for index in asked:
            block = model.vit.blocks[index]
            if not can_answer(block):
                raise ValueError(
                    f"{self}: the attention of block {index} ({type(block).__name__}) mixes or subtracts "
                    "heads, or is one of several, so queries beside it cannot ask it; choose another tuner"
                )
        synthesis = Synthesis(model, self, len(asked))
        model.put_beside(synthesis, by=self)
        for index, stage in enumerate(model.stages):
            stage.aside.append(AskBlock(model.width, self, synthesis) if index in asked else SideStep())


class AskBlock(SideStep):
    """The queries of one block, and what they do before it answers."""

    def __init__(self, width: int, settings: SynQT, synthesis: "Synthesis") -> None:
        super().__init__()
        self.reads = (synthesis,)  # a tuple, so that it is registered once, in `StagedViT.shared`
        like = synthesis.norm.weight
        self.queries = nn.Parameter(like.new_empty(settings.queries, width).uniform_(-1, 1))  # [q, D]
        self.enter = ResidualMap(width, settings.hidden, settings.dropout, like)
        self.among = SelfQuery(width, settings, like)
        self.dropout = nn.Dropout(settings.dropout)
        if settings.follows == "release":
            self.unread = unread_weights(2 * width, like)

    def reading(
        self, block: "TimmModule", state: TokenState, attended: Attended, side: SideState
    ) -> SideState:
        from vitrim.backbones.blocks import answer

        asking = self.queries.expand(state.tokens.shape[0], -1, -1)  # [B, q, D]
        if side.values:
            asking = asking + self.reads[0].feature_scale * side.values[-3][:, None]
        asking = self.dropout(self.among(self.enter(asking)))
        attention, mlp = answer(block, asking, attended)
        means = (each.mean(1) for each in (asking + attention + mlp, attention, mlp))  # [B, D] each
        return SideState(values=(*side.values, *means))


class Synthesis(SideStream):
    """What the head makes of all that the queries gathered."""

    reads_last = False

    def __init__(self, model: "StagedViT", settings: SynQT, asked: int) -> None:
        super().__init__()
        like, width = next(model.vit.blocks[0].parameters()), model.width
        gathered = 3 * asked + 1
        self.feature_scale = nn.Parameter(like.new_full((1,), settings.feature_scale))
        self.map = ResidualMap(width, settings.hidden, settings.dropout, like)
        self.norm = norm_like(width, like)
        self.weigh = nn.Linear(width, gathered - 1, device=like.device, dtype=like.dtype)
        self.head_norm = norm_like(width, like)
        self.dropout = nn.Dropout(settings.dropout)
        self.drop_features = settings.drop_features
        _copy_norm(model.vit, self.head_norm)
        if settings.follows == "release":
            self.unread = unread_weights(gathered, like)

    def features(self, vit: "TimmModule", state: TokenState, side: SideState) -> Tensor:
        gathered = self.gathered(side)
        weights = self.weights(gathered)[..., None]  # [B, 3L+1, 1]
        return self.head_norm((weights * gathered).mean(1))

    def gathered(self, side: SideState) -> Tensor:
        """F: what was gathered last, then everything block by block, each mapped. [B, 3L+1, D]"""
        stack = torch.stack([side.values[-3], *side.values], dim=1)
        mapped = stack + self.map(self.norm(stack))
        if not self.training or self.drop_features == 0:
            return mapped
        kept = torch.rand_like(mapped[:, 1:, :1]) >= self.drop_features  # [B, 3L, 1]
        dropped = mapped[:, 1:] * kept / (1 - self.drop_features)
        return torch.cat([mapped[:, :1], dropped], dim=1)

    def weights(self, gathered: Tensor) -> Tensor:
        """How much each of them counts; the first always 1. [B, 3L+1]"""
        others = self.dropout(nn.functional.gelu(self.weigh(gathered[:, 0]))).tanh()
        return torch.cat([torch.ones_like(others[:, :1]), others], dim=1)

    def classify(self, vit: "TimmModule", state: TokenState, side: SideState) -> Tensor:
        from vitrim.backbones.heads import classify_features

        return classify_features(vit, self.features(vit, state, side))


def _copy_norm(vit: "TimmModule", norm: nn.LayerNorm) -> None:
    """Start as the backbone's last norm, wherever its pooling has it; without one, as a plain norm."""
    own = next(
        (
            part
            for part in (vit.norm, getattr(vit, "fc_norm", None))
            if getattr(part, "weight", None) is not None
        ),
        None,
    )
    if own is None:
        return
    with torch.no_grad():
        norm.weight.copy_(own.weight)
        if getattr(own, "bias", None) is not None:
            norm.bias.copy_(own.bias)
