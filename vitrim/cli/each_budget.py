"""vitrim evaluate --budget with several shares: one set of weights measured under each, in lines, as JSON, or
drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.cli.asked_budget import at_budget

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from vitrim.data import DataSource
    from vitrim.runs.evaluate import Answers


def picture_place(chosen: Namespace, shares: list[float]) -> Path | None:
    """Where --picture goes, refused before anything is measured where it cannot be drawn."""
    from vitrim.runs.answer_files import check_ending

    if chosen.picture is None:
        return None
    place = check_ending(chosen.picture, ".png")
    if len(set(shares)) < 2:
        raise ValueError(
            "--picture draws several budgets of one model: give them, as in --budget 0.5,0.7,0.9"
        )
    if not place.parent.is_dir():
        raise FileNotFoundError(f"--picture: there is no folder {place.parent} to write {place.name} into")
    return place


def at_each_budget(
    model: Any, shares: list[float], chosen: Namespace, measured: Callable[[], Answers], data: DataSource
) -> list[dict[str, Any]]:
    """What is measured under each budget, beside what an image costs there."""
    from vitrim.measuring.costs import costs
    from vitrim.measuring.costs_on_images import costs_on_images
    from vitrim.training.budgets import calibration_batches

    rows: list[dict[str, Any]] = []
    for share in shares:
        at_budget(model, share, chosen.run, chosen, chosen.data)
        found, counted = measured(), costs(model)
        row = {"budget": share, **found.metrics.to_json(), "gmacs": counted.gmacs}
        if counted.by_image:
            row |= {"costs_on_images": costs_on_images(model, calibration_batches(model, data)).to_json()}
        rows.append(row)
    return rows


def in_lines(rows: list[dict[str, Any]]) -> str:
    """A line for each budget."""
    from vitrim.settings.task_kinds import result_words

    return "".join(
        f"budget {row['budget']:g}: {result_words(row)}, loss {row['loss']:.4f}, {_cost_words(row)}\n"
        for row in rows
    )


def _cost_words(row: dict[str, Any]) -> str:
    spread = row.get("costs_on_images")
    if spread is None:
        return f"{row['gmacs']:.3f} GMACs"
    of = spread["gmacs_percentiles"]
    range_ = f"{of['5']:.3f} to {of['95']:.3f} for nine in ten images"
    return f"{spread['gmacs_mean']:.3f} GMACs in the mean, {range_}"


def draw(rows: list[dict[str, Any]], place: Path, called: str) -> Path:
    """The picture, and its figures beside it as NAME.budgets.json, whose path is returned."""
    from vitrim.report.charts.by_budget import by_budget
    from vitrim.writing import write_whole

    chart = by_budget(rows, called)
    figures = place.with_suffix(".budgets.json")
    told = {"words": chart.words, "rows": rows}
    write_whole(figures, (json.dumps(told, indent=1) + "\n").encode())
    write_whole(place, chart.png())
    return figures
