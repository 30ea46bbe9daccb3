"""UniAdapter (arXiv 2302.06605): one bottleneck for each layer number, shared by vision block i and
text layer i.

    h = relu(down(LN x)),   visual: s visual_up h,   text: s up h,   cross-modal: s LN(multi_up h + up h)

with s = 0.1. Vision: beside the MLP, from the stream after attention. Text alone: beside the
feed-forward, from what self-attention gives. Text that looks at an image: the text branch of the query
before cross-attention and the cross-modal branch of what comes out of it, both added behind the
feed-forward. One pair of linear maps of the image's tokens, shared by all layers, is added to the keys
and values of cross-attention.

Where the release differs: it starts only `down` and `up` at zero, so visual and cross-modal branches
begin with noise (`compat=True`); here all three ups and the maps' ups start at zero, and the model
starts unchanged.
"""

from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitrim.checks import check_number, check_positive
from vitrim.network.model import StagedViT
from vitrim.network.parts import Branch
from vitrim.tokens.state import TokenState


@dataclass(frozen=True)
class UniAdapter:
    """Settings of UniAdapter. BLIP-base: 12 x 1,578,752 (18.95 M) + 198,274 parameters.

    Attributes:
        width: of each layer's bottleneck.
        key_width: of the two maps beside the keys and values of cross-attention.
        scale: factor of the branches.
        compat: start as the released code does.
    """

    width: int = 512
    key_width: int = 64
    scale: float = 0.1
    compat: bool = False

    def __post_init__(self) -> None:
        check_positive("UniAdapter", "width", self.width)
        check_positive("UniAdapter", "key_width", self.key_width)
        check_number("UniAdapter", "scale", self.scale)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class SharedAdapter(nn.Module):
    """One layer's bottleneck with its three ways up."""

    def __init__(self, width: int, settings: UniAdapter, like: Tensor) -> None:
        super().__init__()
        where: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.scale = settings.scale
        self.norm = nn.LayerNorm(width, **where)
        self.norm_crossed = nn.LayerNorm(width, **where)
        self.down = nn.Linear(width, settings.width, **where)
        self.visual_up, self.text_up, self.crossed_up = (
            nn.Linear(settings.width, width, **where) for _ in range(3)
        )
        for layer in (self.down, self.visual_up, self.text_up, self.crossed_up):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        silent = (
            (self.down, self.text_up) if settings.compat else (self.visual_up, self.text_up, self.crossed_up)
        )
        for layer in silent:
            nn.init.zeros_(layer.weight)

    def visual(self, tokens: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]"""
        return self.scale * self.visual_up(self._hidden(tokens))

    def text(self, hidden: Tensor) -> Tensor:
        """[B, L, W] -> [B, L, W]"""
        return self.scale * self.text_up(self._hidden(hidden))

    def crossed(self, hidden: Tensor) -> Tensor:
        """[B, L, W] -> [B, L, W]"""
        inner = self._hidden(hidden)
        return self.scale * self.norm_crossed(self.crossed_up(inner) + self.text_up(inner))

    def _hidden(self, inputs: Tensor) -> Tensor:
        return torch.relu(self.down(self.norm(inputs)))


class KeyMap(nn.Module):
    """scale * up(down(x)), beside the projection of cross-attention's keys or values."""

    def __init__(self, width: int, out: int, hidden: int, like: Tensor) -> None:
        super().__init__()
        where: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.down, self.up = nn.Linear(width, hidden, **where), nn.Linear(hidden, out, **where)
        self.scale = nn.Parameter(torch.ones(1, **where))
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, W]"""
        return self.scale * self.up(self.down(tokens))


class UniAdapters(nn.Module):
    """All layers' bottlenecks and the two maps; owned by the text tower."""

    def __init__(self, depth: int, width: int, settings: UniAdapter, like: Tensor) -> None:
        super().__init__()
        self.settings = settings
        self.layers = nn.ModuleList(SharedAdapter(width, settings, like) for _ in range(depth))
        self.keys = KeyMap(width, width, settings.key_width, like)
        self.values = KeyMap(width, width, settings.key_width, like)

    def layer(self, index: int) -> SharedAdapter:
        return cast("SharedAdapter", self.layers[index])


class BesideMlp(Branch):
    """The visual branch of a bottleneck that the text tower owns and saves: here it is a part as any
    other (it is counted, moved and trained), but a state dict has it once, under the text tower's name."""

    def __init__(self, adapter: SharedAdapter) -> None:
        super().__init__()
        self.adapter = adapter
        self.register_load_state_dict_post_hook(_not_looked_for)

    def forward(self, state: TokenState, normed: Tensor) -> tuple[Tensor, TokenState]:
        return self.adapter.visual(state.tokens), state

    def state_dict(self, *args: Any, destination: Any = None, **settings: Any) -> Any:
        """Nothing: see above."""
        return {} if destination is None else destination


def _not_looked_for(branch: nn.Module, incompatible: Any) -> None:
    """Loading does not miss what is under another name; the hook runs for this branch alone."""
    own = tuple(f".adapter.{name}" for name, _ in branch.adapter.named_parameters())  # type: ignore[union-attr]
    missing = incompatible.missing_keys
    missing[:] = [name for name in missing if not (".beside_mlp." in name and name.endswith(own))]


def put_on_vision(vision: StagedViT, adapters: UniAdapters) -> None:
    """Let block i of a vision tower have the visual branch of bottleneck i."""
    if len(adapters.layers) != vision.depth:
        raise ValueError(
            f"UniAdapter shares a bottleneck between each block and each text layer, but there are "
            f"{vision.depth} blocks and {len(adapters.layers)} layers; use other methods on each tower"
        )
    for index, stage in enumerate(vision.stages):
        stage.beside_mlp.append(BesideMlp(adapters.layer(index)))
