"""What a notebook shows of a model: a short table."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

NAMES_SHOWN = 6


def summary_html(model: StagedViT) -> str:
    """Backbone, methods, what trains, what goes in and comes out."""
    trained = sum(weight.numel() for weight in model.trained().values())
    total = sum(weight.numel() for weight in model.parameters())
    height, width = model.preprocess.image_size
    names = ", ".join((model.classes or ())[:NAMES_SHOWN])
    more = ", …" if len(model.classes or ()) > NAMES_SHOWN else ""
    outputs = f"{model.num_classes}" + (f": {names}{more}" if names else "")
    return table_html(
        f"{model.origin.name}, {model.depth} blocks",
        {
            "methods": ", ".join(map(repr, model.methods)) or "none",
            "trains": f"{trained:,} of {total:,} parameters ({100 * trained / total:.2g} %)",
            "takes": f"{height} x {width} pixels, {model.preprocess.channels} channels",
            "gives": f"{model.task}: {outputs}" if model.num_classes else "features",
        },
    )


def table_html(title: str, told: Mapping[str, str]) -> str:
    """A caption and rows of name and value, in the notebook's own style; all text is escaped."""
    left = "style='text-align:left'"
    rows = "".join(
        f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(value)}</td></tr>"
        for name, value in told.items()
    )
    return f"<table><caption {left}><b>{escape(title)}</b></caption>{rows}</table>"
