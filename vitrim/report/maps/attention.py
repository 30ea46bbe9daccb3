"""What the class token attends to in the last block: the plain backbone, tuned and reduced side by side, and
how far they are from each other (Sparse-Tuning, Figure 4).

The attention of reduced models is put back on the grid through the token map; a dropped patch is shown black.
Distances compare distributions over the original patches: a token's attention is shared evenly among its
patches, what was dropped is zero, and each distribution sums to one. The paper only says which is closer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from vitrim.report.maps.pixels import Pixels, cells_of
from vitrim.report.traced import Traced

STRENGTH = 0.6  # of the colours over the image
Grid = NDArray[numpy.float64]  # [rows, columns]


@dataclass(frozen=True)
class AttentionMap:
    """One panel.

    Attributes:
        name: whose attention it is.
        values: [rows, columns], attention to each patch's token, shared among its patches; nan where dropped.
        cosine, divergence: beside the first panel's: cosine similarity, and Jensen-Shannon divergence in bits
            (0 the same, 1 nothing in common); None for the first itself.
    """

    name: str
    values: Grid
    cosine: float | None = None
    divergence: float | None = None

    @property
    def words(self) -> str:
        if self.cosine is None or self.divergence is None:
            return self.name
        return f"{self.name}: cosine {self.cosine:.3f}, Jensen-Shannon {self.divergence:.3f} bit"


def attention_maps(traced: Mapping[str, Traced], image: int) -> list[AttentionMap]:
    """One map for each model, the first being what the others are compared with."""
    found: list[AttentionMap] = []
    for name, each in traced.items():
        rows, columns = each.grid[-2:]
        count = each.frames or 1  # of a clip, all its frames beside each other
        spread = each.blocks[-1].attention_of_patches(spread=True)[image * count : (image + 1) * count]
        values = spread.double().numpy().reshape(count, rows, columns).swapaxes(0, 1).reshape(rows, -1)
        if not found:
            found.append(AttentionMap(name, values))
            continue
        found.append(AttentionMap(name, values, *distances(found[0].values, values)))
    return found


def distances(first: Grid, second: Grid) -> tuple[float, float]:
    """Cosine similarity and Jensen-Shannon divergence (base 2) of two maps as distributions."""
    one, other = (numpy.nan_to_num(values.ravel()) for values in (first, second))
    cosine = float(one @ other / (numpy.linalg.norm(one) * numpy.linalg.norm(other)))
    return cosine, float(jensenshannon(one, other, base=2) ** 2)


def overlay(pixels: Pixels, values: Grid, most: float) -> Pixels:
    """The image under its attention, bilinear, with `most` as the brightest colour; dropped patches black."""
    height, width, _ = pixels.shape
    dropped = numpy.isnan(values)
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(numpy.nan_to_num(values))[None, None], (height, width), mode="bilinear"
    )[0, 0].numpy()
    colours = colormaps["inferno"]((smooth / most).clip(0, 1))[..., :3]
    shown = (1 - STRENGTH) * pixels + STRENGTH * colours
    shown[dropped.ravel()[cells_of(height, width, values.shape)]] = 0.0
    return numpy.asarray(shown)


def shared_scale(maps: Sequence[AttentionMap]) -> float:
    """One brightest value for all panels of a row: panels of their own scale would hide lost attention. The
    brightest fiftieth of the patches is above it, or a few patches that everything attends to would leave the
    rest dark.
    """
    return max(float(numpy.nanquantile(each.values, 0.98)) for each in maps)
