"""Pictures of a page in columns: of frames, and of strips of them, which are wider."""

from __future__ import annotations

from collections.abc import Sequence

from vitrim.report.maps.pixels import Pixels
from vitrim.report.maps.sheet import embedded

SIDE = 192  # pixels of the longer side of a picture
MOST_STRIP = 960  # of a strip of frames


def grid(figures: Sequence[str], like: Pixels) -> str:
    """Figures beside each other; `like` is one of their pictures."""
    columns = "samples strips" if _is_strip(like) else "samples"
    return f'<div class="{columns}">{"".join(figures)}</div>'


def in_the_grid(pixels: Pixels) -> str:
    """A picture as a `data:` address; a strip gets as many times more pixels as it has frames, to a limit."""
    height, width, _ = pixels.shape
    return embedded(pixels, min(round(SIDE * width / height), MOST_STRIP) if _is_strip(pixels) else SIDE)


def _is_strip(pixels: Pixels) -> bool:
    height, width, _ = pixels.shape
    return width > 2 * height
