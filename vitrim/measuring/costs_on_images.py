"""What a model costs where every image keeps its own number of tokens: a distribution, over given images."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitrim.measuring.counting import MacCounter, counting, without_values
from vitrim.network.model import StagedViT
from vitrim.network.placing import placed
from vitrim.network.stage import is_worth_moving
from vitrim.tokens.padded import counts_of
from vitrim.tokens.state import TokenState

PERCENTILES = (5, 25, 50, 75, 95)
SAMPLES = 12  # counts at which blocks are counted to learn their cost at all others
CHECKS, AGREE = 2, 1e-4  # how well that has to foretell so many more, relatively
DRAWN = SAMPLES + CHECKS - 1  # of these counts

CostsOfCounts = Callable[[np.ndarray], np.ndarray]
Pair = tuple[int, int]  # patch tokens that enter a block, and that leave it


@dataclass(frozen=True)
class CostsOnImages:
    """Costs of some images, as executed, without padding.

    Attributes:
        gmacs: billions of multiply-accumulates of each image.
        tokens: [images, blocks], the patch tokens that leave every block.
        blocks: where the count depends on the image.
    """

    gmacs: np.ndarray
    tokens: np.ndarray
    blocks: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean GMACs of an image."""
        return float(self.gmacs.mean())

    def percentiles(self) -> dict[int, float]:
        """GMACs that so many percent of the images do not exceed."""
        return {share: float(np.percentile(self.gmacs, share)) for share in PERCENTILES}

    def to_json(self) -> dict[str, Any]:
        """What a record holds."""
        return {
            "images": len(self.gmacs),
            "gmacs_mean": self.mean,
            "gmacs_percentiles": {str(share): value for share, value in self.percentiles().items()},
            "blocks": list(self.blocks),
            "tokens_mean": [float(mean) for mean in self.tokens.mean(0)],
            "tokens_percentiles": {
                str(share): [float(value) for value in np.percentile(self.tokens, share, axis=0)]
                for share in PERCENTILES
            },
        }

    def in_words(self) -> str:
        """One sentence with the mean and the spread."""
        found = self.percentiles()
        return (
            f"{self.mean:.3f} GMACs in the mean of {len(self.gmacs):,} images, "
            f"{found[5]:.3f} to {found[95]:.3f} for nine in ten: it depends on the image"
        )


def costs_on_images(model: StagedViT, batches: Iterable[Any]) -> CostsOnImages:
    """Count what each image of `batches`, of images [B, C, height, width] or (images, labels), costs.

    Blocks are counted at some counts of tokens; their cost at all others follows, because it is a polynomial
    of second degree in the tokens that enter and leave, less what is saved where many leave. Where it is
    not, every image is counted by itself. (An image that keeps all in a block counts as if it had fused
    one token: 1 / 12 D of the block too much.)
    """
    tokens = tokens_of(model, batches)
    varying = tuple(index for index, part in placed(model) if not getattr(part, "static", True))
    learned = learned_costs(model, varying) if varying else None
    macs = None if learned is None else learned(tokens)
    if macs is None:
        every = [_count(model, {block: int(row[block]) for block in varying})[0] for row in tokens]
        macs = np.array(every, dtype=float)
    return CostsOnImages(macs / 1e9, tokens, varying)


@torch.inference_mode()
def tokens_of(model: StagedViT, batches: Iterable[Any]) -> np.ndarray:
    """[images, blocks]: how many patch tokens of each image leave each block."""
    was_training, rows = model.training, []
    like = next(model.vit.parameters())
    model.eval()
    try:
        for batch in batches:
            images: Tensor = batch[0] if isinstance(batch, tuple | list) else batch
            state, places = model.begin(images.to(like.device, like.dtype))
            states: list[TokenState] = []
            model.pass_blocks(state, places, range(model.depth), None, states)
            rows.append(np.array([counts_of(each) for each in states]).T)
    finally:
        model.train(was_training)
    if not rows:
        raise ValueError("costs_on_images: there are no images to count on")
    return np.concatenate(rows)


def _count(model: StagedViT, left: dict[int, int]) -> tuple[int, list[int], list[Pair]]:
    """Multiply-accumulates of an image of which so many tokens leave those blocks: in all, of each block, and
    its pair of counts."""
    twin = without_values(model)
    counter, pairs, like = MacCounter(), list[Pair](), next(twin.vit.parameters())
    for index, part in placed(twin):
        if index in left:
            part.assumed = left[index]
    for index, stage in enumerate(twin.stages):
        counter.name(stage, f"block {index}")
        stage.register_forward_hook(lambda _, given, state: pairs.append((given[1].count, state.count)))
    size = twin.preprocess.image_size
    with counting(counter):
        twin(torch.empty(1, twin.preprocess.channels, *size, dtype=like.dtype, device="meta"))
    return counter.total, [counter.parts[f"block {index}"] for index in range(twin.depth)], pairs


def learned_costs(model: StagedViT, varying: tuple[int, ...]) -> CostsOfCounts | None:
    """The multiply-accumulates of images [images] by the patch tokens that leave each block [images, blocks],
    learned from a few that are counted; None where one more, counted as well, is not foretold."""
    luck, counts = random.Random(0), range(2, model.patch_count)
    if len(counts) < len(varying):
        return None
    few = [model.patch_count - 1 - place for place in range(len(varying))]  # one leaves every block
    chosen = [few, *(sorted(luck.sample(counts, len(varying)), reverse=True) for _ in range(DRAWN))]
    drawn = [dict(zip(varying, each, strict=True)) for each in chosen]
    found = [_count(model, left) for left in drawn]
    known = np.array([_terms(np.array(pairs), model) for _, _, pairs in found])  # [samples, blocks, terms]
    blocks = np.array([blocks for _, blocks, _ in found], dtype=float)
    factors = [
        np.linalg.lstsq(known[:SAMPLES, block], blocks[:SAMPLES, block], rcond=None)[0]
        for block in range(model.depth)
    ]
    foretold = np.array([(known[:, block] @ factors[block]) for block in range(model.depth)]).T
    if not np.allclose(foretold, blocks, rtol=AGREE, atol=0):
        return None
    outside, headed = found[0][0] - sum(found[0][1]), all(pairs[-1][1] == 0 for _, _, pairs in found)

    def macs(tokens: np.ndarray) -> np.ndarray:
        entering = np.concatenate([np.full((len(tokens), 1), model.patch_count), tokens[:, :-1]], axis=1)
        pairs = np.stack([entering, tokens], axis=2)  # [images, blocks, 2]
        if headed:  # the last block computes only what the head reads, and leaves no patches
            pairs[:, -1, 1] = 0
        terms = _terms(pairs, model)
        return outside + sum(terms[:, block] @ factors[block] for block in range(model.depth))

    return macs


def _terms(pairs: np.ndarray, model: StagedViT) -> np.ndarray:
    """All products of second degree of pairs [..., 2] of counts, scaled, and both once more where so many
    leave that the reduction moves a second tensor and projects fewer: [..., 8]"""
    entering, leaving = np.moveaxis(pairs / model.patch_count, -1, 0)
    one, moved = np.ones_like(entering), is_worth_moving(entering, leaving)
    squares = entering**2, entering * leaving, leaving**2
    return np.stack([one, entering, leaving, *squares, moved * entering, moved * leaving], axis=-1)
