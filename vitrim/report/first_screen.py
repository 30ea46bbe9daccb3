"""How good, how cheap, how fast: three figures, each beside its baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitrim.report.comparing import interval, thing, things
from vitrim.report.html import card
from vitrim.report.shown_run import ShownRun
from vitrim.report.summary import folded_gmacs, marked, speed_of
from vitrim.settings.task_kinds import main_figure


def first_screen(runs: Sequence[ShownRun]) -> str:
    """The three cards about the first run; a second run is its baseline."""
    cards = (_good(runs), _cheap(runs[0].record), _fast(runs[0].record))
    return f'<div class="cards">{"".join(cards)}</div>'


def _good(runs: Sequence[ShownRun]) -> str:
    results = runs[0].record["results"]
    beside = [f"of {results['images']:,} {results['split']} {things(runs[0].record)}{marked(runs[0].record)}"]
    if "top1" in results:
        low, high = interval(results["top1"], results["images"])
        beside.append(f"95 % interval {100 * low:.1f} to {100 * high:.1f} %")
    if len(runs) > 1:
        beside.append(f"{runs[1].name}: {main_figure(runs[1].record['results'], 1)}")
    elif often := _most_frequent(results):
        beside.append(f"always saying the most frequent class: {100 * often:.1f} %")
    return card("How good: test accuracy", main_figure(results, 1), "; ".join(beside))


def _most_frequent(results: Mapping[str, Any]) -> float | None:
    counts = [part.get("images", 0) for part in results.get("per_class") or ()]
    return max(counts) / sum(counts) if counts and sum(counts) else None


def _cheap(record: Mapping[str, Any]) -> str:
    found, plain = record["costs"], record["costs"]["plain"]
    gmacs = folded_gmacs(record)
    share = gmacs / plain["gmacs"]
    trained = found["trained_parameters"]
    beside = (
        f"{gmacs:.3f} of {plain['gmacs']:.3f} billion multiply-adds for one {thing(record)}; trained "
        f"{trained:,} parameters, {100 * trained / plain['total_parameters']:.2g} % of what full "
        "fine-tuning trains"
    )
    if found.get("by_image"):
        beside += (
            f"; operations vary by {thing(record)} and are given for the mean number of tokens asked for"
        )
    return card("How cheap: operations, plain backbone = 100 %", f"{100 * share:.0f} %", beside)


def _fast(record: Mapping[str, Any]) -> str:
    what = "How fast: time, plain backbone = 100 %"
    speed = speed_of(record)
    if speed is None:
        if not record["settings"]["methods"]:
            return card(what, "100 %", "the plain backbone itself: only its classifier was trained")
        return card(what, "not measured", "vitrim bench measures it, batch by batch")
    low, high = speed["quartiles"]
    now = record.get("speed_machine")
    where = now or record["machine"]
    pictures = (
        f"one {thing(record)} at a time" if speed["batch_size"] == 1 else f"batches of {speed['batch_size']}"
    )
    beside = (
        f"{pictures}, median of rounds in turns, half between {100 * low:.0f} and {100 * high:.0f} %; "
        f"{where['cpu'] if now else where.get('gpu') or where['cpu']}"
        + (", measured as this page was written; vitrim bench measures more" if now else "")
    )
    return card(what, f"{100 * speed['ratio']:.0f} %", beside)
