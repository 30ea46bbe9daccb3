"""Res-Tuning: tuners beside frozen operations, or a bypass beside the whole frozen backbone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.checks import check_one_of, check_positive
from vitrim.methods.tuners.restuning_attended import BesideKeys, Prefix, Prompt
from vitrim.network.method import Method, option, store_blocks
from vitrim.network.parts import Branch
from vitrim.network.side import SideStep, SideStream
from vitrim.tokens.state import SideState, TokenState

if TYPE_CHECKING:
    from vitrim.backbones.support import TimmModule
    from vitrim.network.model import StagedViT

FORMS = ("bypass", "adapter", "prefix", "prompt")
TINY = 1e-6  # deviation of the released biases


@dataclass(frozen=True, repr=False)
class ResTuning(Method):
    """Res-Tuning (arXiv 2310.19859), with x_l the tokens behind block l, x_0 those before the first, sg the
    stop of gradients and T(z) = z + W2 gelu(W1 z) of `length` hidden channels:

        bypass   b_0 = sg(x_0),   b_l = T_l(sg(x_l)) + T'_l(b_{l-1});   b_L takes the place of x_L
        adapter  x'' = x' + FFN(LN2 x') + W2 gelu(W1 LN2 x')
        prefix   A' = A + l (Attn(Q, P_k, P_v) - A),   A = Attn(Q, K, V) of the block
        prompt   the same with P_k, P_v the block's own keys and values of LN1 p, p trained tokens

    The bypass is as released: b_L is read by the final norm and the head in place of every token. No
    gradient enters the backbone, whose forward pass several tasks can share: `vitrim.together` gives the
    logits of many bypasses for one pass. Nothing may train inside the backbone (refused); a reducer without
    weights reduces the bypass along with the tokens. W1 and W2 start Xavier uniform, biases normal with
    deviation 1e-6, so the model does not start unchanged; start="zero" leaves W2 silent, and b_L then is the
    sum of all x_l.
    2 L (2 D length + length + D) parameters (ViT-B/16, length 32: 1,198,848). Does not fold.

    The other forms are derived from the paper's OP(x) + T(x), as no backbone with them was released; anything
    may train beside them. The adapter's W2 starts at zero and the model unchanged; half as many parameters.
    With l the share of the softmax over [K; P_k] that falls on P_k, prefix is attention over [K; P_k],
    [V; P_v] exactly, and prompt is VPT with fresh prompts in every block exactly, without their places in the
    sequence; l takes one more product of queries and keys. P and p start normal with deviation 0.02; 2 L
    length D parameters (589,824), or L length D. The .51 M and the accuracies that papers print belong to no
    configuration that was published.

    Attributes:
        form: "bypass", "adapter", "prefix" or "prompt".
        length: hidden channels of T (32 in the released component, 10 in its example), or how many keys or
            tokens.
        start: of W2 in the bypass, "xavier" as released or "zero".
        at: indices of the blocks that have it, counted from 0; None for all. A bypass passes others by.
    """

    starts_unchanged: ClassVar[bool] = False  # the bypass sums what the blocks gave

    form: str = "bypass"
    length: int = 32
    start: str = option("xavier")
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        check_one_of("ResTuning", "form", self.form, FORMS)
        check_positive("ResTuning", "length", self.length)
        check_one_of("ResTuning", "start", self.start, ("xavier", "zero"))
        if self.form != "bypass" and self.start != "xavier":
            raise ValueError(
                f"ResTuning: start belongs to form='bypass'; a tuner of form {self.form!r} is silent"
            )

    def attach(self, model: "StagedViT") -> None:
        like = next(model.vit.blocks[0].parameters())
        if self.form == "bypass":
            model.put_beside(Bypass(), by=self)
        at = model.check_blocks(self.at, self)
        for index, stage in enumerate(model.stages):
            if self.form == "bypass":
                stage.aside.append(BypassStep(model.width, self, like) if index in at else SideStep())
            elif self.form == "adapter" and index in at:
                stage.beside_mlp.append(ResAdapter(model.width, self, like))
            elif index in at:
                if len(stage.after_mixing):
                    raise ValueError(
                        f"{self}: block {index} already has keys beside it; make them longer instead"
                    )
                stage.after_mixing.append(
                    self._beside_keys(model.width, model.vit.blocks[index], index, like)
                )

    def _beside_keys(self, width: int, block: "TimmModule", index: int, like: Tensor) -> BesideKeys:
        from vitrim.backbones.blocks import heads_of

        heads = heads_of(block)
        if heads is None:
            raise ValueError(
                f"{self}: the attention of block {index} ({type(block).__name__}) norms, gates or mixes what "
                "its heads give, or is one of several, so nothing can be put beside its keys; use "
                "form='adapter'"
            )
        if self.form == "prompt":
            return Prompt(width, self.length, like)
        return Prefix(*heads, self.length, like)


class Hidden(nn.Module):
    """W2 gelu(W1 z)."""

    def __init__(self, width: int, length: int, zero: bool, like: Tensor) -> None:
        super().__init__()
        self.down = nn.Linear(width, length, device=like.device, dtype=like.dtype)
        self.up = nn.Linear(length, width, device=like.device, dtype=like.dtype)
        for layer in (self.down, self.up):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=TINY)
        if zero:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]"""
        return self.up(F.gelu(self.down(tokens)))


class ResAdapter(Branch):
    """The adapter form of one block."""

    reads_norm = True

    def __init__(self, width: int, settings: ResTuning, like: Tensor) -> None:
        super().__init__()
        self.hidden = Hidden(width, settings.length, True, like)

    def forward(self, state: TokenState, normed: Tensor) -> tuple[Tensor, TokenState]:
        return self.hidden(normed), state


class BypassStep(SideStep):
    """The bypass of one block."""

    def __init__(self, width: int, settings: ResTuning, like: Tensor) -> None:
        super().__init__()
        zero = settings.start == "zero"
        self.lateral = Hidden(width, settings.length, zero, like)
        self.vertical = Hidden(width, settings.length, zero, like)

    def leaving(self, state: TokenState, side: SideState) -> SideState:
        given, before = state.tokens.detach(), side.tokens  # [B, T, D] each
        assert before is not None  # `Bypass.start` gives it
        return SideState(given + self.lateral(given) + before + self.vertical(before))


class Bypass(SideStream):
    """Where the bypass starts, and where it ends."""

    def start(self, state: TokenState) -> SideState:
        return SideState(state.tokens.detach())

    def finish(self, state: TokenState, side: SideState) -> TokenState:
        return state if side.tokens is None else state.replaced(tokens=side.tokens)
