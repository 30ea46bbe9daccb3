"""The dense adapter as Sparse-Tuning released it, which is another network than the paper's.

In every block, on the stream after attention and reduction, with widths 2w and w (64 and 32 in the release):

    h0 = ReLU(down1 x),   h1 = down2 h0,   h2 = up1 h1,   out = up2(down3 [h1; h2] + h0)
    x <- x + FFN(LN2 x) + s out

and after every third block the outputs of these three are added once more: x <- x + out_l + out_{l-1} +
out_{l-2}. The first sum also adds the embedded tokens x_0, so the model does not start unchanged; the sum
after the last block leaves out that block's own output. The release knows 768 channels only, and overwrites
its zero start of up2 by a normal of deviation 0.02; here up2 starts at zero and the other maps like linear
layers. Its head, a BatchNorm without weights before the linear layer, is not part of this.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vitrim.network.parts import Branch
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

BLOCKS_PER_SUM = 3


def attach_release(model: "StagedViT", width: int, scale: float, bias: bool, dropout: float) -> None:
    """One released adapter beside every MLP; the embedded tokens are kept beside the first attention."""
    model.stages[0].beside_attention.append(RememberTokens())
    last = model.depth - 1
    for index, (stage, block) in enumerate(zip(model.stages, model.vit.blocks, strict=True)):
        weight = next(block.parameters())
        like: dict[str, Any] = {"bias": bias, "device": weight.device, "dtype": weight.dtype}
        sums = (index + 1) % BLOCKS_PER_SUM == 0
        stage.beside_mlp.append(
            ReleasedBottleneck(model.width, width, scale, dropout, sums, index == last, like)
        )


class RememberTokens(Branch):
    """Adds nothing; leaves the tokens that enter the block in the trail."""

    def forward(self, state: TokenState, normed: Tensor) -> tuple[Tensor, TokenState]:
        return torch.zeros_like(state.tokens[:, :1]), state.replaced(trail=(state.tokens,))


class ReleasedBottleneck(Branch):
    """The released adapter of one block; the trail holds the sum that the next sum begins with."""

    def __init__(
        self,
        width: int,
        inner: int,
        scale: float,
        dropout: float,
        sums: bool,
        last: bool,
        like: dict[str, Any],
    ) -> None:
        super().__init__()
        self.down1 = nn.Linear(width, 2 * inner, **like)
        self.down2 = nn.Linear(2 * inner, inner, **like)
        self.up1 = nn.Linear(inner, 2 * inner, **like)
        self.down3 = nn.Linear(3 * inner, 2 * inner, **like)
        self.up2 = nn.Linear(2 * inner, width, **like)
        self.dropout = nn.Dropout(dropout)
        self.scale, self.sums, self.last = scale, sums, last
        nn.init.zeros_(self.up2.weight)
        for layer in (self.down1, self.down2, self.up1, self.down3, self.up2):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, state: TokenState, normed: Tensor) -> tuple[Tensor, TokenState]:
        output = self.adapt(state.tokens) * self.scale
        earlier = state.trail[0] if state.trail else torch.zeros_like(output)
        if not self.sums:
            return output, state.replaced(trail=(earlier + output,))
        total = earlier if self.last else earlier + output
        return output + total, state.replaced(trail=())

    def adapt(self, tokens: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]"""
        first = self.dropout(torch.relu(self.down1(tokens)))
        second = self.down2(first)
        third = self.up1(second)
        return self.up2(self.down3(torch.cat([second, third], dim=-1)) + first)
