"""The two towers with their projections, as one thing that can be copied: what learns, and its momentum
copy."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.backbones.heads import last_tokens
from vitrim.network.copying import copied
from vitrim.network.model import StagedViT
from vitrim.retrieval.text import TextTower
from vitrim.tokens.state import TokenState, at_least_float32


@dataclass(frozen=True)
class Seen:
    """What the vision tower makes of images.

    Attributes:
        features: [B, C], projected, of length one.
        tokens: [B, T, D] after the final norm, for texts that look at them; None where nobody does.
        bias: [B, T], what is added where they are attended to; None where that is nothing.
        penalty: what learned reducers add to the loss; usually None.
    """

    features: Tensor
    tokens: Tensor | None = None
    bias: Tensor | None = None
    penalty: Tensor | None = None


class Towers(nn.Module):
    """Images and captions to features of one space [B, C], rows of length one."""

    def __init__(
        self, vision: StagedViT, text: TextTower, proj_dim: int, cross_proportional: bool = False
    ) -> None:
        super().__init__()
        self.vision, self.text = vision, text
        like = next(vision.parameters())
        self.image_projection = nn.Linear(_width(vision), proj_dim, device=like.device, dtype=like.dtype)
        self.text_projection = nn.Linear(text.width, proj_dim, device=like.device, dtype=like.dtype)
        self.cross_proportional = cross_proportional

    def see(self, images: Tensor, tokens: bool = False) -> Seen:
        """Images [B, 3, height, width]; with `tokens`, also what texts may look at."""
        if not tokens:
            pooled, penalty = self.vision.forward_with_penalty(images)
            return Seen(self._unit(self.image_projection(pooled)), penalty=penalty)
        pooled, state = self.vision.run(images)
        after, state = last_tokens(self.vision.vit, state)
        features = self._unit(self.image_projection(pooled))
        return Seen(features, after, image_bias(state, self.cross_proportional), state.penalty)

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Captions as token ids and mask [B, L] -> [B, C]"""
        return self._unit(self.text_projection(self.text.features(ids, mask)))

    @staticmethod
    def _unit(features: Tensor) -> Tensor:
        """In float32 or better: what is ranked is never rounded to half precision."""
        return F.normalize(features.to(at_least_float32(features.dtype)), dim=-1)


def _width(vision: StagedViT) -> int:
    """The width of what the vision tower pools; it may not end in a classifier."""
    if vision.num_classes:
        raise ValueError(
            f"the vision tower ends in a classifier of {vision.num_classes} classes, but retrieval reads its "
            "features; compose it with num_classes=0"
        )
    return vision.vit.num_features


def image_bias(state: TokenState, proportional: bool) -> Tensor | None:
    """What attention to an image's tokens has added: -inf for padding and masked tokens, with
    `proportional` the log of sizes; None where that is nothing. [B, T]"""
    if state.keep is None and not (proportional and state.moved):
        return None
    bias = state.sizes.log() if proportional else torch.zeros_like(state.sizes)
    if state.keep is not None:
        bias = bias.masked_fill(state.keep < 0.5, -torch.inf)
    return F.pad(bias, (state.prefix, 0)).detach()


class MomentumTowers(nn.Module):
    """A copy of the towers that follows them: m <- decay m + (1 - decay) p for all that trains. It
    carries the same methods, so the same merge. Frozen weights are not copied but shared. Always in
    evaluation mode."""

    def __init__(self, towers: Towers, decay: float) -> None:
        super().__init__()
        self.decay = decay
        fixed = {id(each): each for each in towers.parameters() if not each.requires_grad}
        self.towers = copied(towers, fixed).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "MomentumTowers":
        return super().train(False)

    def pairs(self, towers: Towers) -> list[tuple[str, Tensor, Tensor]]:
        """Name, copy and original of everything that follows."""
        own = dict(self.towers.named_parameters())
        return [(name, own[name], each) for name, each in towers.named_parameters() if each.requires_grad]

    @torch.no_grad()
    def follow(self, towers: Towers) -> None:
        """Take a step towards the towers."""
        for _, own, other in self.pairs(towers):
            own.mul_(self.decay).add_(other, alpha=1 - self.decay)
        for own, other in zip(self.towers.buffers(), towers.buffers(), strict=True):
            own.copy_(other)
