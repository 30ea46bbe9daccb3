"""What the papers print for the same task and backbone, to stand as grey points beside measured runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitrim.data.vtab_tasks import NAMES, TASKS
from vitrim.papers.accuracy import PUBLISHED
from vitrim.report.charts.trade_off import Ghost
from vitrim.settings.recipes import find_recipe

PAPERS_MODEL = "vit_base_patch16_224"


def ghosts(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Ghost]]:
    """Printed accuracies of the one VTAB-1k task that all runs are about, by cost; none where the task or the
    backbone is another than the papers'.
    """
    specs = {record["data"]["spec"] for record in records}
    models = {record["settings"]["model"].partition(".")[0] for record in records}
    kind, _, name = next(iter(specs)).partition("?")[0].partition(":")
    task = NAMES.get(name.lower().replace("-", "_"))
    if len(specs) > 1 or models != {PAPERS_MODEL} or kind != "vtab" or task is None:
        return {}
    place = list(TASKS).index(task.name)
    found: dict[str, list[Ghost]] = {"gmacs": [], "parameters": []}
    rows = {mean.recipe: mean for mean in PUBLISHED.values() if mean.tasks is not None}
    for recipe, row in rows.items():
        if recipe is None or row.tasks is None:
            continue
        expects = find_recipe(recipe).expects
        for axis, key in (("gmacs", "gmacs_paper"), ("parameters", "trained")):
            if expects.get(key):
                found[axis].append(Ghost(row.row, expects[key], row.tasks[place]))
    return found
