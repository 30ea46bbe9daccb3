"""Dense adapters (Sparse-Tuning): an adapter that also reads the outputs of adapters in earlier blocks."""

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vitrim.checks import check_number, check_one_of, check_positive, check_probability, several
from vitrim.methods.tuners.adapter import start_silent
from vitrim.methods.tuners.dense_release import ReleasedBottleneck, attach_release
from vitrim.network.method import Method, option, store_blocks, store_setting
from vitrim.network.parts import Branch
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class DenseAdapter(Method):
    """Sparse-Tuning's adapter (arXiv 2405.14700, eq. 12-17, Algorithm 1), beside the MLP of every block l:

        inner   DA_l = W_up ReLU(W_1 x_l + W_2 DA_{l-1} + W_3 DA_{l-3})
        input   DA_l = W_up ReLU(W_1 (x_l + DA_{l-1} + DA_{l-3}))
        output  DA_l = sum over the same inputs z_j of W_up,j ReLU(W_j z_j)
        x <- x + FFN(LN2 x) + s DA_l

    x_l is the stream after attention and after token reduction; every reduction moves the remembered outputs
    with the tokens, by the same indices and weights. Early blocks build only the projections they have inputs
    for. Inner fusion has (44 width + 12) D + 32 width parameters on 12 blocks (ViT-B/16, width 32:
    1,091,584). Down projections start Kaiming uniform, up projections and biases at zero, so the model starts
    unchanged (the paper is silent on both).

    The released code is a different network, in which no adapter reads another; `follows="release"` runs it,
    see `vitrim.methods.tuners.dense_release`. At width 32 it has 1,314,432 parameters on ViT-B/16.

    Attributes:
        width: of the bottleneck (the papers' d: 32 for full data, 8 for VTAB-1K).
        fusion: "inner" (default of the paper), "input" or "output".
        reads: how many blocks back the outputs it reads come from.
        scale: factor of what is added to the stream; the remembered outputs are not scaled.
        bias: whether the linear layers have biases.
        dropout: on the hidden activations, while training.
        restart: forget earlier outputs every so many blocks; 12 gives the parameter count printed for ViT-L.
            None never does.
        follows: "paper" or "release"; the release has neither fusion, reads nor restart.
        at: indices of the blocks that have it, counted from 0; None for all. A block without an adapter
            leaves no output to read.
    """

    width: int = 32
    fusion: str = "inner"
    reads: tuple[int, ...] = (1, 3)
    scale: float = option(1.0)
    bias: bool = option(True)
    dropout: float = option(0.0)
    restart: int | None = option(None)
    follows: str = option("paper")
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        check_positive("DenseAdapter", "width", self.width)
        check_one_of("DenseAdapter", "fusion", self.fusion, ("inner", "input", "output"))
        store_setting(self, "reads", several("DenseAdapter", "reads", self.reads, int))
        for distance in self.reads:
            check_positive("DenseAdapter", "reads", distance)
        if len(set(self.reads)) != len(self.reads):
            raise ValueError(f"DenseAdapter: reads names a distance twice: {self.reads!r}")
        check_number("DenseAdapter", "scale", self.scale)
        check_probability("DenseAdapter", "dropout", self.dropout)
        if self.restart is not None:
            check_positive("DenseAdapter", "restart", self.restart)
        check_one_of("DenseAdapter", "follows", self.follows, ("paper", "release"))
        own = self.fusion, self.reads, self.restart, self.at
        if self.follows == "release" and own != ("inner", (1, 3), None, None):
            raise ValueError(
                "DenseAdapter: the release has connections of its own in all blocks; leave fusion, reads and "
                "restart at their defaults, and at out, with follows='release'"
            )

    def attach(self, model: "StagedViT") -> None:
        present = (branch for stage in model.stages for branch in stage.beside_mlp)
        if any(isinstance(branch, DenseBottleneck | ReleasedBottleneck) for branch in present):
            raise ValueError(f"{self}: the model already has dense adapters; their memories would mix")
        if self.follows == "release":
            attach_release(model, self.width, self.scale, self.bias, self.dropout)
            return
        at = model.check_blocks(self.at, self)
        for index in at:
            since = self._since_start(index)
            earlier = [block for block in at if index - since <= block < index]
            # The trail holds the outputs of adapters, newest first: places in it, not blocks
            reads = tuple(
                sum(block >= index - distance for block in earlier)
                for distance in self.reads
                if index - distance in earlier
            )
            last = not any(index < block <= index - since + (self.restart or model.depth) - 1 for block in at)
            memory = 0 if last else max(self.reads, default=0)
            like = next(model.vit.blocks[index].parameters())
            model.stages[index].beside_mlp.append(DenseBottleneck(model.width, self, reads, memory, like))

    def _since_start(self, index: int) -> int:
        """How many blocks back the memory of block `index` goes."""
        return index % self.restart if self.restart else index


class DenseBottleneck(Branch):
    """The adapter of one block. It reads its tokens and the outputs `reads` adapters back, and leaves
    `memory` outputs in the trail."""

    def __init__(
        self, width: int, settings: DenseAdapter, reads: tuple[int, ...], memory: int, like: Tensor
    ) -> None:
        super().__init__()
        inputs, hidden = 1 + len(reads), settings.width
        where: dict[str, Any] = {"bias": settings.bias, "device": like.device, "dtype": like.dtype}
        downs = [
            nn.Linear(width, hidden, **where) for _ in range(1 if settings.fusion == "input" else inputs)
        ]
        ups = [nn.Linear(hidden, width, **where) for _ in range(inputs if settings.fusion == "output" else 1)]
        for down, up in product(downs, ups):
            start_silent(down, up)
        self.down, self.up = nn.ModuleList(downs), nn.ModuleList(ups)
        self.dropout = nn.Dropout(settings.dropout)
        self.fusion, self.scale = settings.fusion, settings.scale
        self.reads, self.memory = reads, memory

    def forward(self, state: TokenState, normed: Tensor) -> tuple[Tensor, TokenState]:
        inputs = [state.tokens, *(state.trail[distance - 1] for distance in self.reads)]  # [B, T, D] each
        output = self.combine(inputs)
        added = output if self.scale == 1 else output * self.scale
        return added, state.replaced(trail=(output, *state.trail)[: self.memory])

    def combine(self, inputs: list[Tensor]) -> Tensor:
        """DA_l from x_l and the earlier outputs, all [B, T, D]."""
        if self.fusion == "output":
            parts = zip(inputs, self.down, self.up, strict=True)
            return torch.stack([up(self._activate(down(z))) for z, down, up in parts]).sum(0)
        if self.fusion == "input":
            return self.up[0](self._activate(self.down[0](sum(inputs[1:], inputs[0]))))
        hidden = [down(z) for z, down in zip(inputs, self.down, strict=True)]
        return self.up[0](self._activate(sum(hidden[1:], hidden[0])))

    def _activate(self, hidden: Tensor) -> Tensor:
        return self.dropout(torch.relu(hidden))
