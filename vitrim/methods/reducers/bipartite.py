"""Bipartite: in one block, merge half of the patches into the other half, with matching that can be learned
(FPET)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from vitrim.checks import block_indices, check_one_of, check_positive, check_probability
from vitrim.methods.quantising.linear import BITS, QuantisedLinear, start_quiet
from vitrim.methods.reducers.matching import (
    alternate,
    checkerboard,
    merge_all,
    merge_all_softly,
    similarity,
    unit,
)
from vitrim.network.method import Method, option, store_setting
from vitrim.network.parts import Reducer
from vitrim.network.placing import placed, weigh_by_size_after
from vitrim.tokens.attended import Attended
from vitrim.tokens.state import TokenState, regroup, without_autocast

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class Bipartite(Method):
    """Bipartite differentiable matching of FPET (section 4): all of set A merges into set B.

    With K the mean over heads of the block's keys, before rotary embedding, and sg the stop of gradients:

        K' = sg(K) + up(dropout(relu(down(sg(K))))),    rows to unit length,    S = K'_A K'_B^T
        t_i = mean of the two largest S_i,    C' = sigmoid(S - t),    M = C' + sg(C - C')
        x_B <- (size_B x_B + M^T size_A x_A) / size',    size' = size_B + M^T size_A

    C is the arg-max of S, in float32 or better. Training passes gradients to the refinement through t, the
    sizes in the division and the log sizes in later attention; evaluation uses indices and computes the
    same. The default block is the seventh (index 6, the paper's "6th layer"): 197 -> 99 tokens on a 14x14
    grid.

    Where the release differs: it assigns by C' > 0.5, which loses tokens where rounding hides the difference
    of the two best (in bfloat16 up to 99 %); it knows 14x14 and square grids only and merges a distillation
    token. Here the colours follow each token's own cell (any grid, after other reducers too) and the prefix
    is left alone.

    Attributes:
        at: blocks that reduce, counted from 0. One of them for a checkerboard: what it leaves is of one
            colour.
        learned: refine the keys by a bottleneck that trains (4,096 parameters with 64 wide heads). False:
            plain keys, the single-layer soft matching of the paper's ablation; the four refinement settings
            are unused.
        hidden: width of the refinement's bottleneck.
        bits: precision of its weights, 1, 2, 4 or 8; None for floats, which start without effect.
        split: "checkerboard" by the cells' colours, or "alternate" by turns in the sequence, as in ToMe.
        stop_gradient: False lets matching train what makes the keys, which costs FPET 1.7 points.
        proportional: whether attention in later blocks is weighed by size.
        dropout: on the refinement's hidden activations, while training.
        normalise_keys: False matches by plain products, as the paper's eq. 11 is printed.
    """

    reduces: ClassVar[bool] = True
    without: ClassVar[Mapping[str, str]] = {
        "budget": "it merges one half of the tokens into the other, so counts are halved in every image; "
        "EViT and DynamicViT rank tokens and have one"
    }

    at: tuple[int, ...] = (6,)
    learned: bool = True
    hidden: int = 32
    bits: int | None = 1
    split: str = "checkerboard"
    stop_gradient: bool = True
    proportional: bool = True
    dropout: float = option(0.1)
    normalise_keys: bool = option(True)

    def __post_init__(self) -> None:
        store_setting(self, "at", block_indices("Bipartite", self.at))
        check_positive("Bipartite", "hidden", self.hidden)
        check_one_of("Bipartite", "bits", self.bits, (*BITS, None))
        check_one_of("Bipartite", "split", self.split, ("checkerboard", "alternate"))
        check_probability("Bipartite", "dropout", self.dropout)

    def attach(self, model: "StagedViT") -> None:
        from vitrim.backbones.bridge import key_width
        from vitrim.backbones.heads import rows_read_by_head

        if self.split == "checkerboard":
            standing = [part.settings.split for _, part in placed(model) if isinstance(part, MatchHalves)]
            if self.split in standing or len(self.at) > 1:
                raise ValueError(
                    f"{self}: after one checkerboard all tokens left are of one colour, so a second has "
                    "nothing to merge; use one block, or split='alternate' for the others"
                )
        if self.learned and rows_read_by_head(model.vit) is not None and model.depth - 1 in self.at:
            raise ValueError(
                f"{self}: nothing would be learned in the last block, as the head reads no patches; "
                "use an earlier block"
            )
        steps = []
        for index in model.check_blocks(self.at, self):
            block = model.vit.blocks[index]
            refine = (
                Refinement(key_width(block), self, like=next(block.parameters())) if self.learned else None
            )
            steps.append(MatchHalves(self, refine))
        model.reduce_at(self.at, steps, by=self)
        if self.proportional:
            weigh_by_size_after(model, min(self.at))


class Refinement(nn.Module):
    """R: what a bottleneck with low-bit weights and without biases adds to the keys."""

    def __init__(self, width: int, settings: Bipartite, like: Tensor) -> None:
        super().__init__()
        where = {"device": like.device, "dtype": like.dtype}
        self.down = _linear(width, settings.hidden, settings.bits, where)
        self.up = _linear(settings.hidden, width, settings.bits, where)
        self.dropout = nn.Dropout(settings.dropout)
        if settings.bits is None:
            nn.init.zeros_(self.up.weight)
        else:
            start_quiet(self.up)

    def forward(self, keys: Tensor) -> Tensor:
        """[B, N, d] -> [B, N, d]"""
        hidden = torch.relu(self.down(keys.to(self.down.weight.dtype)))
        return keys + self.up(self.dropout(hidden)).to(keys.dtype)


def _linear(width: int, out: int, bits: int | None, where: dict) -> nn.Linear:
    return (
        nn.Linear(width, out, bias=False, **where)
        if bits is None
        else QuantisedLinear(width, out, bits, **where)
    )


class MatchHalves(Reducer):
    """One block's bipartite matching."""

    def __init__(self, settings: Bipartite, refine: Refinement | None) -> None:
        super().__init__()
        self.settings, self.refine = settings, refine

    def leaving(self, entering: int) -> int:
        if entering < 4:
            raise ValueError(
                f"{self.settings}: {entering} patch tokens are too few to match one half with the other"
            )
        return entering // 2 if self.settings.split == "checkerboard" else (entering + 1) // 2

    def matching_macs(self, prefix: int, entering: int, width: int, head_width: int) -> int:
        tokens = prefix + entering
        if self.refine is None:
            return (tokens + 1) // 2 * (tokens // 2) * head_width
        left = prefix + self.leaving(entering)
        pairs = left * (tokens - left)
        return tokens * 2 * self.settings.hidden * head_width + pairs * (head_width + width + 1)

    def forward(self, state: TokenState, attended: Attended) -> TokenState:
        self.leaving(state.count)  # refuses too few
        if self.settings.split == "checkerboard":
            a, b = checkerboard(state.position, state.grid)
        else:
            a, b = alternate(state.position, state.prefix)
        softly = self.training and self.refine is not None
        learning = softly and torch.is_grad_enabled()
        with torch.set_grad_enabled(learning), without_autocast(state.tokens.device):
            scores = similarity(self.matching_keys(attended), a, b)
            grouping = (merge_all_softly if softly else merge_all)(scores, a, b)
        return regroup(state, grouping)

    def matching_keys(self, attended: Attended) -> Tensor:
        """What the patches are matched by: [B, N, d]"""
        keys = attended.patch_keys()
        if self.refine is not None:
            keys = self.refine(keys.detach() if self.settings.stop_gradient else keys)
        return unit(keys) if self.settings.normalise_keys else keys
