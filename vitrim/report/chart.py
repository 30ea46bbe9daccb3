"""A chart: how it is drawn, the numbers in it, and what it shows in words. Drawn off screen, in the colours
of a light and of a dark page, so that nothing about the user's own matplotlib changes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vitrim.writing import write_whole

# Told apart by the colour-blind too (Okabe and Ito 2008), in an order of falling contrast
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#888888")
DPI = 160  # of the files; 4.4 inches wide are read at 390 pixels as well
Cell = str | float | int | None


@dataclass(frozen=True)
class Theme:
    """Colours of what is not data."""

    ink: str
    faint: str
    paper: str


LIGHT, DARK = Theme("#222222", "#767676", "#ffffff"), Theme("#e8e8e8", "#a0a0a0", "#16191d")


@dataclass(frozen=True)
class Chart:
    """A picture of numbers.

    Attributes:
        name: of the files it is saved to, without an ending.
        words: what it shows, in a sentence or two: caption and alternative text.
        columns, rows: the numbers, as a table.
        draw: draws them on one pair of axes.
        size: in inches.
    """

    name: str
    words: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    draw: Callable[[Axes, Theme], None]
    size: tuple[float, float] = (4.4, 3.0)

    def figure(self, theme: Theme = LIGHT) -> Figure:
        """A matplotlib figure of it."""
        figure = Figure(figsize=self.size, layout="constrained", facecolor=theme.paper)
        axes = figure.subplots()
        axes.set_facecolor(theme.paper)
        self.draw(axes, theme)
        _colour(axes, theme)
        return figure

    def png(self, theme: Theme = LIGHT, dpi: int = DPI) -> bytes:
        return to_png(self.figure(theme), dpi)

    def light_and_dark(self, dpi: int = DPI) -> tuple[bytes, bytes]:
        """For pages of both kinds; where things have room is worked out once, as colours do not move them."""
        light, dark = self.figure(LIGHT), self.figure(DARK)
        first = to_png(light, dpi)
        dark.set_layout_engine("none")
        for axes, laid_out in zip(dark.axes, light.axes, strict=True):
            axes.set_position(laid_out.get_position(original=True))
        return first, to_png(dark, dpi)

    def save(self, folder: str | Path, dpi: int = DPI) -> Path:
        """Write NAME.png, and its numbers as NAME.csv and NAME.json; returns the picture's path."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        write_whole(place / f"{self.name}.csv", self.csv().encode())
        told = {"words": self.words, "columns": self.columns, "rows": self.rows}
        write_whole(place / f"{self.name}.json", (json.dumps(told) + "\n").encode())
        picture = place / f"{self.name}.png"
        write_whole(picture, self.png(dpi=dpi))
        return picture

    def csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue()


def _colour(axes: Axes, theme: Theme) -> None:
    """Give everything but the data the theme's colours."""
    axes.tick_params(colors=theme.faint, labelcolor=theme.ink, labelsize=9)
    for spine in axes.spines.values():
        spine.set_color(theme.faint)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(theme.ink)
    legend = axes.get_legend()
    if legend is not None:
        for entry in legend.get_texts():
            entry.set_color(theme.ink)


def plain(axes: Axes, title: str, across: str = "", up: str = "") -> None:
    """Titles, and no frame above and to the right."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(across, fontsize=9)
    axes.set_ylabel(up, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def to_png(figure: Figure, dpi: int | None = None) -> bytes:
    if dpi is not None:
        figure.set_dpi(dpi)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def safe(text: Any, most: int = 24) -> str:
    """A name as matplotlib may print it: no formula is read from it, and it is no longer than there is room
    for.
    """
    shown = "".join(character if character.isprintable() else "?" for character in str(text))
    shown = shown if len(shown) <= most else shown[: most - 1] + "…"
    return shown.replace("$", r"\$")


def spread_evenly(count: int, most: int) -> Sequence[int]:
    """Up to `most` of `count` places, the last one always among them."""
    if count <= most:
        return range(count)
    return [round((index + 1) * count / most) - 1 for index in range(most)]
