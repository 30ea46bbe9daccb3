"""The map of tokens: what a model still tells apart in an image, after any of its blocks.

A patch with a token of its own is shown as it is. Patches that share one are shown in their common mean
colour, framed by a rim in the group's own colour (FPET Figure A3; the picture of ToMe). Patches fused into
one token are greyed and hatched, dropped ones are white, and patches that skipped the MLP are dimmed. It is
read from `TokenState.source` and the history of reductions, so it holds for every reducer: the fused token is
never taken for the patch in the upper left corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from scipy.ndimage import label

from vitrim.report.maps.pixels import Cells, Pixels, cells_of, edges, mean_colours
from vitrim.report.traced import DROPPED, FATES, FUSED, MERGED, OWN, TracedBlock

GREY, WHITE, DIMMED = 0.62, 1.0, 0.45
SEED = 0  # of the groups' rim colours


@dataclass(frozen=True)
class TokenMap:
    """The map of one image after one block.

    Attributes:
        block: its index.
        picture: what to look at.
        group: [rows, columns], the token each patch is in, -1 for dropped.
        fate: [rows, columns], OWN, MERGED, FUSED or DROPPED.
        skipped: [rows, columns], whether the patch skipped the MLP.
        scattered: tokens of several patches that do not touch each other, and their share of those tokens.
    """

    block: int
    picture: Pixels
    group: Cells
    fate: Cells
    skipped: NDArray[numpy.bool_]
    scattered: tuple[int, float]
    frames: int = 1
    """of a clip, beside each other"""

    @property
    def words(self) -> str:
        """What happened, counted in patches."""
        counts = [int((self.fate == fate).sum()) for fate in (OWN, MERGED, FUSED, DROPPED)]
        said = [f"{count} {words}" for count, words in zip(counts, FATES, strict=True) if count]
        if self.skipped.any():
            said.append(f"{int(self.skipped.sum())} skipped the MLP")
        return f"after block {self.block}, of {self.fate.size} patches{self._by_frame}: " + ", ".join(said)

    @property
    def _by_frame(self) -> str:
        """Of a clip: how many tokens each frame has left."""
        if self.frames == 1:
            return ""
        parts = numpy.split(self.group, self.frames, axis=1)
        left = " ".join(str(len(set(part[part >= 0].tolist()))) for part in parts)
        return f" in {self.frames} frames (tokens left in each: {left})"


def token_map(pixels: Pixels, block: TracedBlock, image: int, grid: tuple[int, ...]) -> TokenMap:
    """The map of one image [height, width, 3] of a traced batch."""
    rows, columns = grid[-2:]
    group = block.leaving[image].numpy().reshape(rows, columns)
    fate = block.fate[image].numpy().reshape(rows, columns)
    skipped = block.skipped[image].numpy().reshape(rows, columns)
    picture = paint(pixels, group, fate, skipped)
    return TokenMap(block.block, picture, group, fate, skipped, scattered(group, fate))


def paint(pixels: Pixels, group: Cells, fate: Cells, skipped: NDArray[numpy.bool_]) -> Pixels:
    """The image in the colours its tokens stand for. See the top of this file."""
    height, width, _ = pixels.shape
    cells = cells_of(height, width, group.shape)
    groups, fates = group.ravel()[cells], fate.ravel()[cells]  # [height, width]
    colours = mean_colours(pixels, groups, int(group.max(initial=0)) + 1)
    shown = pixels.copy()
    merged = fates == MERGED
    shown[merged] = colours[groups[merged]]
    rims = numpy.random.default_rng(SEED).uniform(0.15, 1.0, size=(len(colours), 3))
    rim = merged & edges(groups)
    shown[rim] = rims[groups[rim]]
    fused = fates == FUSED
    shown[fused] = 0.35 * shown[fused] + 0.65 * GREY
    down, across = numpy.indices((height, width))
    shown[fused & ((down + across) % 6 == 0)] = GREY - 0.25
    dim = skipped.ravel()[cells]
    shown[dim] = DIMMED * shown[dim]
    shown[fates == DROPPED] = WHITE
    return shown


def scattered(group: Cells, fate: Cells) -> tuple[int, float]:
    """How many merged tokens stand for patches in several pieces that do not touch (by a side), and which
    share of the merged tokens that is.
    """
    merged = [number for number in numpy.unique(group[fate == MERGED]) if number >= 0]
    pieces = [label(group == number)[1] for number in merged]
    torn = sum(count > 1 for count in pieces)
    return torn, torn / len(merged) if merged else 0.0


def kept_by_block(maps: Sequence[TokenMap]) -> tuple[tuple[int, ...], ...]:
    """The numbers of a row of maps: block, and patches of each fate."""
    return tuple(
        (each.block, *(int((each.fate == fate).sum()) for fate in (OWN, MERGED, FUSED, DROPPED)))
        for each in maps
    )
