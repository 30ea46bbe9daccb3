"""`RetrievalModel`: a vision tower with any tuner and reducer, a text tower, and what they are trained
by."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitrim.checks import check_number, check_one_of, check_positive, check_probability
from vitrim.network.model import StagedViT
from vitrim.retrieval.crossing import CrossModalText, KeysValues
from vitrim.retrieval.losses import infonce, matching, momentum_contrast, ramped, siglip
from vitrim.retrieval.negatives import hard_negatives
from vitrim.retrieval.pairs import Losses as Losses
from vitrim.retrieval.pairs import Pairs as Pairs
from vitrim.retrieval.queue import FeatureQueue
from vitrim.retrieval.text import TextTower
from vitrim.retrieval.towers import MomentumTowers, Seen, Towers
from vitrim.tokens.state import without_autocast

HEADS, LOSSES = ("itc", "itc+itm"), ("infonce", "siglip", "moco")
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.001, 0.5


class RetrievalModel(nn.Module):
    """Two towers whose features meet, and with head="itc+itm" a text tower that also looks at the image and
    judges whether it fits.

    Args:
        vision: from `vitrim.compose(..., num_classes=0)`, with any tuner and reducer.
        text: a `TextTower`; one with cross-attention for "itc+itm".
        head: "itc" (features alone) or "itc+itm" (features, then matching of the best).
        loss: "infonce" (CLIP), "siglip", or "moco" (BLIP: momentum towers, a queue, soft targets).
        proj_dim: C, the width of the space where features meet.
        temperature: what similarities are divided by at the start; for "siglip" the inverse of its scale.
        learn_temperature: whether it trains, between 0.001 and 0.5.
        queue: pairs that "moco" remembers.
        momentum: how much of themselves the momentum towers keep at every step.
        alpha: share of the momentum towers' opinion in the targets of "moco", reached after one epoch.
        cross_proportional: texts attend to merged tokens by their size.
    """

    def __init__(
        self,
        vision: StagedViT,
        text: TextTower,
        head: str = "itc",
        loss: str = "infonce",
        proj_dim: int = 256,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        queue: int = 57_600,
        momentum: float = 0.995,
        alpha: float = 0.4,
        cross_proportional: bool = False,
    ) -> None:
        super().__init__()
        check_one_of("RetrievalModel", "head", head, HEADS)
        check_one_of("RetrievalModel", "loss", loss, LOSSES)
        check_positive("RetrievalModel", "proj_dim", proj_dim)
        check_probability("RetrievalModel", "momentum", momentum)
        check_probability("RetrievalModel", "alpha", alpha)
        check_number("RetrievalModel", "temperature", temperature)
        if not LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
            raise ValueError(f"RetrievalModel: temperature must be in 0.001 to 0.5, got {temperature!r}")
        if head == "itc+itm" and not text.crosses:
            raise ValueError(
                f"head 'itc+itm' needs a text tower with cross-attention such as BLIP's, but a "
                f"{type(text).__name__} has none; use head='itc'"
            )
        self.head, self.loss_kind, self.alpha, self.progress = head, loss, alpha, 0.0
        self.settings: dict[str, Any] = {
            "head": head, "loss": loss, "proj_dim": proj_dim, "temperature": temperature,
            "learn_temperature": learn_temperature, "queue": queue, "momentum": momentum, "alpha": alpha,
            "cross_proportional": cross_proportional,
        }  # fmt: skip
        self.towers = Towers(vision, text, proj_dim, cross_proportional)
        like = self.towers.image_projection.weight
        start = math.log(1 / temperature) if loss == "siglip" else temperature
        self.temperature = nn.Parameter(like.new_tensor(start), requires_grad=learn_temperature)
        self.bias = nn.Parameter(like.new_tensor(-10.0)) if loss == "siglip" else None
        self.itm_head = (
            nn.Linear(text.width, 2, device=like.device, dtype=like.dtype) if head == "itc+itm" else None
        )
        self.follower = MomentumTowers(self.towers, momentum) if loss == "moco" else None
        self.queue = FeatureQueue(proj_dim, queue).to(like) if loss == "moco" else None

    @property
    def vision(self) -> StagedViT:
        return self.towers.vision

    @property
    def text(self) -> TextTower:
        return self.towers.text

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Cosines of images [I, 3, height, width] with captions [K, L]: [I, K]"""
        seen, read = self.towers.see(images).features, self.towers.read(ids, mask)
        with without_autocast(seen.device):
            return seen @ read.T

    def losses(self, pairs: Pairs) -> Losses:
        """What a batch is trained by. With "moco" the batch then enters the queue, where the model
        trains."""
        if (pairs.image_ids < 0).any():
            raise ValueError("image_ids must be 0 or more: negative ones mark empty places of the queue")
        seen = self.towers.see(pairs.images, tokens=self.head == "itc+itm")
        texts = self.towers.read(pairs.ids, pairs.mask)
        itc = self._contrast(pairs, seen.features, texts)
        itm = self._matching(pairs, seen, texts) if self.itm_head is not None else None
        return Losses(itc, itm, seen.penalty)

    def _contrast(self, pairs: Pairs, images: Tensor, texts: Tensor) -> Tensor:
        if self.loss_kind == "moco":
            return self._momentum_contrast(pairs, images, texts)
        with without_autocast(images.device):
            if self.bias is not None:
                return siglip(images, texts, pairs.image_ids, self.temperature, self.bias)
            return infonce(images, texts, pairs.image_ids, self.temperature)

    def _momentum_contrast(self, pairs: Pairs, images: Tensor, texts: Tensor) -> Tensor:
        follower, queue = cast("MomentumTowers", self.follower), cast("FeatureQueue", self.queue)
        with torch.no_grad():
            now = follower.towers.see(pairs.images).features
            said = follower.towers.read(pairs.ids, pairs.mask)
        old_images, old_texts, old_ids = queue.filled()
        keys = torch.cat([now, old_images.to(now)]), torch.cat([said, old_texts.to(said)])
        key_ids = torch.cat([pairs.image_ids, old_ids])
        alpha = ramped(self.alpha, self.progress)
        with without_autocast(images.device):
            loss = momentum_contrast(
                (images, texts), keys, (now, said), pairs.image_ids, key_ids, self.temperature, alpha
            )
        if self.training:
            queue.push(now, said, pairs.image_ids)
        return loss

    def _matching(self, pairs: Pairs, seen: Seen, texts: Tensor) -> Tensor:
        """Every pair, and for every image and every caption its hard negative."""
        keys_values = self.look(seen)
        ids, number = pairs.image_ids, torch.arange(len(pairs.image_ids), device=pairs.image_ids.device)
        positive = self.match(keys_values, seen.bias, pairs.ids, pairs.mask)
        with torch.no_grad(), without_autocast(texts.device):
            similarity = seen.features @ texts.T / self.cold()
        captions, for_caption = hard_negatives(similarity.T, ids, ids)
        images, for_image = hard_negatives(similarity, ids, ids)
        looked = torch.cat([number[for_caption], images])  # which image
        read = torch.cat([captions, number[for_image]])  # which caption
        if not len(looked):
            return matching(positive, None)
        chosen = tuple((keys[looked], values[looked]) for keys, values in keys_values)
        bias = None if seen.bias is None else seen.bias[looked]
        return matching(positive, self.match(chosen, bias, pairs.ids[read], pairs.mask[read]))

    def cold(self) -> Tensor:
        """What similarities are divided by: the temperature, or the inverse of SigLIP's scale."""
        found = (-self.temperature).exp() if self.loss_kind == "siglip" else self.temperature
        return found.detach()

    def look(self, seen: Seen) -> KeysValues:
        """Keys and values of images for all texts that will be compared with them."""
        if self.itm_head is None or seen.tokens is None:
            raise ValueError("matching needs head='itc+itm', and images seen with tokens=True")
        return cast("CrossModalText", self.text).keys_values(seen.tokens)

    def match(self, seen: KeysValues, image_bias: Tensor | None, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits [B, 2] of image b with caption b: class 1 says they match."""
        hidden = cast("CrossModalText", self.text).fuse(ids, mask, seen, image_bias)
        return cast("nn.Linear", self.itm_head)(hidden[:, 0])

    @torch.no_grad()
    def after_step(self) -> None:
        """What follows a step of the optimiser: the temperature stays in bounds, the momentum towers
        follow."""
        if self.loss_kind == "siglip":
            self.temperature.clamp_(-math.log(HIGHEST_TEMPERATURE), -math.log(LOWEST_TEMPERATURE))
        else:
            self.temperature.clamp_(LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE)
        if self.follower is not None:
            self.follower.follow(self.towers)

    def set_progress(self, epoch: float) -> None:
        """How many epochs of training are done: for soft targets and for parts with a schedule."""
        self.progress = epoch
        self.vision.set_progress(epoch)

    def trained(self) -> dict[str, nn.Parameter]:
        """What trains, by name."""
        return {name: each for name, each in self.named_parameters() if each.requires_grad}

    def state(self) -> dict[str, Tensor]:
        """What trains, what follows it, the queue and the other buffers: the checkpoint."""
        pairs = [] if self.follower is None else self.follower.pairs(self.towers)
        following = {id(own) for _, own, _ in pairs}
        frozen = {id(each) for each in self.parameters() if not each.requires_grad} - following
        kept = self.state_dict(keep_vars=True)
        return {name: value.detach() for name, value in kept.items() if id(value) not in frozen}

    def trained_by_tower(self) -> dict[str, int]:
        """How many parameters train, by part; UniAdapter's bottlenecks are of both towers."""
        vision, text = _trained(self.vision), _trained(self.text)
        both = vision.keys() & text.keys()
        found = {
            "vision": sum(vision[key] for key in vision.keys() - both),
            "text": sum(text[key] for key in text.keys() - both),
            "both": sum(vision[key] for key in both),
        }
        return found | {"projections and heads": sum(_trained(self).values()) - sum(found.values())}


def _trained(part: nn.Module) -> dict[int, int]:
    """Numbers in each parameter that trains, by its identity."""
    return {id(each): each.numel() for each in part.parameters() if each.requires_grad}
