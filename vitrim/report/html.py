"""The pieces of HTML the page is made of. All text is escaped here, so that class names stay text."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from vitrim.report.chart import Cell, Chart

MOST_ROWS = 400  # of a chart's numbers on the page; all of them are in its CSV file


def paragraph(text: str, note: bool = False) -> str:
    words = escape(text).replace(" %", "&nbsp;%")
    return f'<p class="note">{words}</p>' if note else f"<p>{words}</p>"


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{escape(text)}</h{level}>"


def cell(value: Cell | tuple[str, float | None], label: str = "") -> str:
    """A table cell; a pair is what it shows and the number it is sorted by. The label stands beside it where
    a narrow screen shows rows as lists.
    """
    text, number = value if isinstance(value, tuple) else (_shown(value), value)
    counts = isinstance(number, int | float) and not isinstance(number, bool)
    sorted_by = f' data-value="{number!r}"' if counts else ""
    return f'<td data-label="{escape(label)}"{sorted_by}>{escape(text)}</td>'


def _shown(value: Cell) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Cell | tuple[str, float | None]]],
    *,
    name: str = "",
    own: int = 0,
) -> str:
    """A table; with a name it is sorted by its headings and filtered by a field above it. The first `own`
    rows are the run the page is about.
    """
    button = "<th scope='col'><button type='button'>{}</button></th>" if name else "<th scope='col'>{}</th>"
    head = "".join(button.format(escape(text)) for text in heads)
    body = "".join(
        f"<tr{' class=own' if place < own else ''}>{''.join(map(cell, row, heads))}</tr>"
        for place, row in enumerate(rows)
    )
    opened = f'<table id="{escape(name)}" class="sortable stacked">' if name else "<table>"
    found = f'<div class="scroll">{opened}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    if not name or len(rows) < 5:
        return found
    field = (
        f'<input type="search" data-filters="{escape(name)}" aria-label="filter rows" placeholder="filter">'
    )
    return field + found


def charts(chosen: Sequence[Chart]) -> str:
    """Charts beside each other where there is room, each with its words and its numbers."""
    return f'<div class="charts">{"".join(map(chart, chosen))}</div>' if chosen else ""


def chart(chosen: Chart) -> str:
    """One chart, for light and dark pages; what it shows is also there as text."""
    light, dark = map(_address, chosen.light_and_dark())
    picture = (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{escape(chosen.words)}" src="{light}"></picture>'
    )
    rows = chosen.rows[:MOST_ROWS]
    cut = f" (the first {MOST_ROWS} of {len(chosen.rows)})" if len(chosen.rows) > MOST_ROWS else ""
    numbers = details(f"numbers{cut}", table(chosen.columns, rows))
    return f"<figure>{picture}<figcaption>{escape(chosen.words)}</figcaption>{numbers}</figure>"


def details(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def facts(told: Mapping[str, str]) -> str:
    lines = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in told.items())
    return f"<dl>{''.join(lines)}</dl>"


def card(what: str, figure: str, beside: str) -> str:
    """One of the three figures of the first screen."""
    return (
        f'<div class="card"><div class="what">{escape(what)}</div><div class="figure">{escape(figure)}</div>'
        f'<div class="beside">{escape(beside).replace(" %", "&nbsp;%")}</div></div>'
    )


def _address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
