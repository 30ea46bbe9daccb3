"""The figures of every class, label or target, and which was taken for which, as sections of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitrim.report.chart import Cell, Chart
from vitrim.report.charts.confusion import most_confused
from vitrim.report.comparing import interval
from vitrim.report.html import charts, heading, paragraph, table
from vitrim.settings.task_kinds import kind_of, part_cell, part_heading, worst_first


def by_class(record: Mapping[str, Any], confusion: Sequence[Chart]) -> list[str]:
    """A section of the page; nothing for runs that were recorded without these figures."""
    results = record["results"]
    kind = kind_of(results)
    parts = results.get(kind.parts) if kind is not None else None
    if kind is None or not parts:
        return []
    ordered = worst_first(parts)
    heads = [part_heading(name) for name in parts[0]]
    rows = [[_cell(name, value) for name, value in part.items()] for part in ordered]
    if "accuracy" in parts[0]:
        heads.append("95 % interval of the accuracy")
        rows = [[*row, _interval(part)] for row, part in zip(rows, ordered, strict=True)]
    sections = [
        heading(f"The {kind.outputs} one by one"),
        paragraph("The worst first; a press on a heading sorts by it.", note=True),
        table(heads, rows, name="classes"),
    ]
    if confusion:
        sections += [heading("Which was taken for which", 3), charts(confusion)]
        if pairs := most_confused([part["name"] for part in parts], results["confusion"]):
            sections.append(paragraph("Taken for each other most often:", note=True))
            sections.append(table(("true class", "taken for", "pictures"), pairs))
    return sections


def _cell(name: str, value: Any) -> Cell | tuple[str, float | None]:
    if isinstance(value, int | float) or value is None:
        return part_cell(name, value), value
    return str(value)


def _interval(part: Mapping[str, Any]) -> tuple[str, float | None]:
    if part.get("accuracy") is None or not part.get("images"):
        return "-", None
    low, high = interval(part["accuracy"], part["images"])
    return f"{100 * low:.0f} to {100 * high:.0f} %", low
