"""In a notebook: the token maps of a picture, from a model in memory."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from vitrim.network.model import StagedViT
from vitrim.report.explaining import explain


def show(model: StagedViT, image: Any, *, top: int = 3) -> Figure:
    """What a model keeps of a picture and what it attends to, as a figure that notebooks display.

    Args:
        model: a composed model; `vitrim.load` and `vitrim.compose` make them.
        image: one image, as `vitrim.predict` takes it.
        top: how many classes to name.

    Raises:
        ValueError: for anything but one image.

    >>> vitrim.show(model, "cat.jpg")
    """
    if not isinstance(model, StagedViT):
        raise ValueError(f"show needs a composed model, got {type(model).__name__}; see vitrim.load")
    explained = list(explain(model, image, top=top))
    if len(explained) != 1:
        raise ValueError(f"show takes one image, got {len(explained)}; vitrim.explain takes many")
    return explained[0].figure()
