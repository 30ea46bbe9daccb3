"""Every chart of a report, by the section it stands in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from vitrim.report.chart import Chart
from vitrim.report.charts.confusion import confusion_map
from vitrim.report.charts.learning import learning
from vitrim.report.charts.published import ghosts
from vitrim.report.charts.reliability import reliability
from vitrim.report.charts.spending import spending
from vitrim.report.charts.trade_off import trade_offs
from vitrim.report.shown_run import ShownRun
from vitrim.report.summary import folded_costs
from vitrim.settings.task_kinds import kind_of

Charts = tuple[Chart, ...]


@dataclass(frozen=True)
class Drawn:
    """Charts of the first run, of all runs where they compare; a section that has none is left out."""

    trade_offs: Charts = ()
    spending: Charts = ()
    learning: Charts = ()
    confusion: Charts = ()
    calibration: Charts = ()
    selection: Charts = ()
    kept: Charts = ()

    def all(self) -> Charts:
        return tuple(chart for field in fields(self) for chart in getattr(self, field.name))


def draw(runs: Sequence[ShownRun], selection: Sequence[Chart] = (), kept: Sequence[Chart] = ()) -> Drawn:
    """The charts of some runs; those of chosen weights and kept tokens need the models, and are given."""
    names, records = [run.name for run in runs], [run.record for run in runs]
    return Drawn(
        tuple(trade_offs(names, records, ghosts(records))),
        tuple(_spending(records[0])),
        tuple(learning({run.name: run.history for run in runs})),
        tuple(_confusion(records[0]["results"])),
        tuple(_calibration(runs[0])),
        tuple(selection),
        tuple(kept),
    )


def _spending(record: Mapping[str, Any]) -> list[Chart]:
    """Nothing for runs of versions that did not keep the costs of blocks."""
    found, plain = folded_costs(record), record["costs"]["plain"]
    lengths = {len(costs.get(what) or ()) for costs in (found, plain) for what in ("blocks", "tokens")}
    return spending(found, plain) if len(lengths) == 1 and lengths != {0} else []


def _confusion(results: Mapping[str, Any]) -> list[Chart]:
    kind = kind_of(results)
    parts = results.get(kind.parts) if kind is not None else None
    table = results.get("confusion")
    return [confusion_map([part["name"] for part in parts], table)] if parts and table else []


def _calibration(run: ShownRun) -> list[Chart]:
    """How much its confidence is worth; of classifiers that kept their answers."""
    if run.answered is None or run.tested is None or len(run.tested.right) != len(run.answered.losses):
        return []
    return [reliability(run.answered.answers[:, 1].tolist(), run.tested.right)]
