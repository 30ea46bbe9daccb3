"""The figures of every class, and which was taken for which, as tables of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vitrim.settings.task_kinds import kind_of, part_cell, part_heading, worst_first

MOST = 30  # classes that get a line


def by_class(record: Mapping[str, Any]) -> list[str]:
    """A section of the page; nothing for runs that were recorded without these figures."""
    results = record["results"]
    kind = kind_of(results)
    parts = results.get(kind.parts) if kind is not None else None
    if kind is None or not parts:
        return []
    words = [f"<h2>The {kind.outputs} one by one</h2>"]
    shown = parts
    if len(parts) > MOST:
        shown = worst_first(parts)[:MOST]
        words.append(f'<p class="note">The {MOST} worst of {len(parts)}.</p>')
    cells = [[part_cell(name, value) for name, value in part.items()] for part in shown]
    words.append(_table([part_heading(name) for name in parts[0]], cells))
    confusion = results.get("confusion")
    if confusion:
        names = [part["name"] for part in parts]
        rows = [[name, *map(str, row)] for name, row in zip(names, confusion, strict=True)]
        words.append(
            '<p class="note">Which was taken for which: a row is a true class, a column what was given.</p>'
        )
        words.append(_table(["", *names], rows))
    return words


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
