"""Convpass: adapters with a small convolution over the grid of patches."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.checks import check_number, check_one_of, check_positive, check_probability, several
from vitrim.methods.tuners.adapter import PLACES, quick_gelu
from vitrim.network.method import Method, option, store_blocks, store_setting
from vitrim.network.parts import Branch
from vitrim.tokens.state import TokenState, take_rows

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class Convpass(Method):
    """Convolutional bypasses beside attention and MLP (arXiv 2207.07039), with q(z) = z sigmoid(1.702 z):

        x'  = x  + Attn(LN1 x)  + s C(LN1 x)
        x'' = x' + FFN(LN2 x')  + s C'(LN2 x'),      C = Up dropout q Conv3x3 q Down

    All maps have biases. The patches are convolved on their grid, whatever its sides, with zeros around it;
    every prefix token is a 1 x 1 map of its own: it meets the centre of the kernel and never mixes with the
    patches. Down starts Xavier uniform, Up at zero, all biases at zero, the convolution at the identity or
    Xavier uniform: the model starts unchanged. 2 L (2 D width + 9 width^2 + 2 width + D) parameters
    (ViT-B/16: 327,552). Does not fold.

    The release (PETL-ViT) draws drop path for the bypass on its own and assumes a square grid and one prefix
    token; here the bypass is outside drop path, as adapters are. Behind a reducer there is no grid: refused,
    unless `reduced="paint"` (ours), which gives every cell the token its patch lives in now, a dropped patch
    zeros, convolves that, and hands every token the result in the cell it sits on.

    Attributes:
        width: channels of the convolution.
        scale: s; the paper chooses it per task from 0.01 to 100.
        beside: "attention", "mlp" or both; "attention" alone is the paper's Convpass-attn.
        at: blocks that have bypasses, counted from 0; None for all.
        dropout: before Up, while training (the release: 0.1).
        start: of the convolution, "identity" or "xavier"; the release sets it per task.
        reduced: "refuse" or "paint", what happens to a grid that a reducer has broken.
    """

    width: int = 8
    scale: float = option(1.0)
    beside: tuple[str, ...] = option(PLACES)
    at: tuple[int, ...] | None = option(None)
    dropout: float = option(0.0)
    start: str = option("identity")
    reduced: str = option("refuse")

    def __post_init__(self) -> None:
        check_positive("Convpass", "width", self.width)
        check_number("Convpass", "scale", self.scale)
        store_setting(self, "beside", several("Convpass", "beside", self.beside, str))
        for place in self.beside:
            check_one_of("Convpass", "beside", place, PLACES)
        if len(set(self.beside)) != len(self.beside) or not self.beside:
            raise ValueError(
                f"Convpass: beside must name 'attention', 'mlp' or each once, got {self.beside!r}"
            )
        store_blocks(self)
        check_probability("Convpass", "dropout", self.dropout)
        check_one_of("Convpass", "start", self.start, ("identity", "xavier"))
        check_one_of("Convpass", "reduced", self.reduced, ("refuse", "paint"))

    @classmethod
    def example(cls, model: "StagedViT") -> Self:
        """In the form that goes with any reducer."""
        return cls(reduced="paint")

    def attach(self, model: "StagedViT") -> None:
        if len(model.grid) != 2:
            raise ValueError(f"{self} convolves images, but the grid here is {model.grid}; use Adapter")
        for index in model.check_blocks(self.at, self):
            stage, like = model.stages[index], next(model.vit.blocks[index].parameters())
            for place in self.beside:
                slot = stage.beside_attention if place == "attention" else stage.beside_mlp
                slot.append(Bypass(model.width, self, like))


class Bypass(Branch):
    """s * up(dropout(q(conv(q(down(normed)))))), convolved on the grid."""

    reads_norm = True
    reads_grid = True

    def __init__(self, width: int, settings: Convpass, like: Tensor) -> None:
        super().__init__()
        where: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.down = nn.Linear(width, settings.width, **where)
        self.conv = nn.Conv2d(settings.width, settings.width, 3, padding=1, **where)
        self.up = nn.Linear(settings.width, width, **where)
        self.dropout = nn.Dropout(settings.dropout)
        self.scale = settings.scale
        self.needs_grid = settings.reduced == "refuse"
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.up.weight)
        if settings.start == "identity":
            nn.init.dirac_(self.conv.weight)
        else:
            nn.init.xavier_uniform_(self.conv.weight)
        for bias in (self.down.bias, self.conv.bias, self.up.bias):
            nn.init.zeros_(cast("Tensor", bias))

    def forward(self, state: TokenState, normed: Tensor) -> tuple[Tensor, TokenState]:
        hidden = quick_gelu(self.down(normed))  # [B, P+N, width]
        prefix = F.linear(hidden[:, : state.prefix], self.conv.weight[:, :, 1, 1], self.conv.bias)
        patches = hidden[:, state.prefix :]
        if state.count:  # none are left when the head reads only prefix tokens
            patches = self._convolve(state, patches)
        mixed = quick_gelu(torch.cat([prefix, patches], dim=1))
        return self.up(self.dropout(mixed)) * self.scale, state

    def _convolve(self, state: TokenState, patches: Tensor) -> Tensor:
        """[B, N, width] -> [B, N, width]"""
        if state.keep is not None:  # masked tokens are those that inference drops
            patches = patches * state.keep[..., None].to(patches.dtype)
        if state.full:
            return self._on_grid(state.grid, patches)
        if self.needs_grid:
            raise ValueError(
                f"Convpass convolves the whole grid of {state.grid} patches, but {state.count} tokens are "
                "left; put the reducer behind its last block (at=...), or set reduced='paint'"
            )
        painted = take_rows(patches, state.source.clamp(min=0)) * (state.source >= 0)[..., None].to(
            patches.dtype
        )
        return take_rows(self._on_grid(state.grid, painted), state.position)

    def _on_grid(self, grid: tuple[int, ...], cells: Tensor) -> Tensor:
        """Convolve [B, N0, width] as a map of `grid`; the frames of a video each for itself."""
        frames = math.prod(grid[:-2])
        maps = (
            cells.unflatten(1, (frames, *grid[-2:])).flatten(0, 1).permute(0, 3, 1, 2)
        )  # [B*frames, width, h, w]
        convolved = self.conv(maps).flatten(2).transpose(1, 2)  # [B*frames, h*w, width]
        return convolved.reshape(cells.shape)
