"""Where every image keeps its own number of tokens: how many, by which images, and whether harder pictures,
by the bits a JPEG of them takes, keep more.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from vitrim.data import DataSource
from vitrim.data.source import Split
from vitrim.data.transforms import eval_transform
from vitrim.measuring.costs_on_images import CostsOnImages, costs_on_images
from vitrim.methods.selection.comparing import spearman
from vitrim.network.bucketed import varies
from vitrim.network.model import StagedViT
from vitrim.report.chart import COLOURS, Chart, Theme, plain, safe
from vitrim.report.maps.pixels import as_pictures
from vitrim.report.samples import by_class_in_turn
from vitrim.runs.batches import ordered_batches

IMAGES, BATCH, EXTREMES = 128, 32, 6
QUALITY = 75  # of the JPEG whose size says how complex a picture is


@dataclass(frozen=True)
class KeptTokens:
    """What some test images keep.

    Attributes:
        names: of the images.
        counts: patch tokens left after the last reduction.
        bits: of a JPEG of each image as the model sees it.
        pictures: the images that keep the fewest, then those that keep the most.
        costs: of all of them.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    bits: np.ndarray
    pictures: tuple[tuple[int, np.ndarray], ...]
    costs: CostsOnImages

    @property
    def correlation(self) -> float:
        """Spearman's, of counts with bits."""
        return spearman(self.counts.tolist(), self.bits.tolist())


def look(model: StagedViT, source: DataSource) -> KeptTokens | None:
    """Count on test images; None for a model that keeps the same number of all."""
    if not varies(model):
        return None
    split = source.split("test" if "test" in source.splits else "val")
    chosen = by_class_in_turn(split.labels)[:IMAGES]
    few = Split(split.read, [split.names[i] for i in chosen], [split.labels[i] for i in chosen])
    tensors = few.with_transform(eval_transform(model.preprocess))
    batches = [images for images, _ in ordered_batches(tensors, BATCH, 0)]
    costs = costs_on_images(model, batches)
    shown = [picture for images in batches for picture in as_pictures(model, images)]
    pictures = [(255 * picture).round().astype(np.uint8) for picture in shown]
    counts = costs.tokens[:, costs.blocks[-1]]
    order = np.argsort(counts, kind="stable").tolist()
    ends = dict.fromkeys([*order[:EXTREMES], *order[-EXTREMES:]])
    return KeptTokens(
        few.names, counts, np.array([jpeg_bits(picture) for picture in pictures]),
        tuple((index, pictures[index]) for index in ends), costs,
    )  # fmt: skip


def jpeg_bits(picture: np.ndarray) -> int:
    """How many bits a JPEG of a picture [height, width, 3] takes."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY)
    return 8 * len(file.getvalue())


def kept_tokens(model: StagedViT, source: DataSource) -> list[Chart]:
    """The histogram, counts against bits, and the pictures at both ends; none where all keep the same."""
    found = look(model, source)
    return [] if found is None else [_histogram(found), _against_bits(found), _extremes(found)]


def _histogram(found: KeptTokens) -> Chart:
    def draw(axes: Axes, theme: Theme) -> None:
        axes.hist(found.counts, bins=min(24, len(set(found.counts.tolist()))), color=COLOURS[0])
        axes.axvline(float(found.counts.mean()), color=COLOURS[1])
        plain(axes, f"mean {found.counts.mean():.1f} patch tokens", "patch tokens left", "images")

    words = (
        f"How many tokens test images keep behind block {found.costs.blocks[-1]}, the mean as a line; "
        f"{found.costs.in_words()}."
    )
    rows = tuple((safe(name, 200), int(count)) for name, count in zip(found.names, found.counts, strict=True))
    return Chart("kept-tokens", words, ("image", "tokens"), rows, draw)


def _against_bits(found: KeptTokens) -> Chart:
    def draw(axes: Axes, theme: Theme) -> None:
        axes.scatter(found.bits / 8192, found.counts, color=COLOURS[0], s=10)
        plain(axes, f"Spearman correlation {found.correlation:+.2f}", "JPEG, KiB", "patch tokens left")

    words = "Whether pictures that take more bits keep more tokens; each point is a test image."
    rows = tuple((int(bits), int(count)) for bits, count in zip(found.bits, found.counts, strict=True))
    return Chart("kept-tokens-and-bits", words, ("bits", "tokens"), rows, draw)


def _extremes(found: KeptTokens) -> Chart:
    columns = (len(found.pictures) + 1) // 2

    def draw(axes: Axes, theme: Theme) -> None:
        for place, (index, picture) in enumerate(found.pictures):
            row, column = divmod(place, columns)
            left, top = column * 1.1, -row * 1.3
            axes.imshow(picture, extent=(left, left + 1, top, top + 1))
            axes.text(left, top + 1.03, str(int(found.counts[index])), fontsize=8, color=theme.ink)
        axes.set_xlim(0, columns * 1.1)
        axes.set_ylim(-1.3, 1.25)
        axes.set_axis_off()
        axes.set_title("fewest tokens above, most below", fontsize=10)

    words = "The test images that keep the fewest tokens and those that keep the most, with their number."
    rows = tuple((safe(found.names[index], 200), int(found.counts[index])) for index, _ in found.pictures)
    return Chart("kept-tokens-ends", words, ("image", "tokens"), rows, draw, (4.4, 2.2))
