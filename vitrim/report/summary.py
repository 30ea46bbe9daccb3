"""The figures of runs side by side, and what they mean in plain words. The terminal and the page show the
same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrim.report.comparing import (
    difference_in_words,
    interval,
    paired,
    thing,
    things,
    unequal,
    unequal_in_words,
)
from vitrim.runs.tested import TestedPictures
from vitrim.settings.task_kinds import main_figure

FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Row:
    """One line of the comparison, as text."""

    name: str
    accuracy: str
    trained: str
    file: str
    gmacs: str
    time: str


BY_IMAGE = " (varies by image)"  # how many tokens an image keeps depends on it: at the mean asked for
HEADINGS = Row("", "test accuracy", "trained", "file", "GMACs", "time")


def name_of(record: Mapping[str, Any]) -> str:
    settings = record["settings"]
    methods = ", ".join(text.split("(")[0] for text in settings["methods"])
    name = settings["recipe"] or methods or "linear"
    return "linear probing" if name == "linear" else str(name)


def names_of(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to call each run beside the others; with its data where they are not all on the same."""
    names = [name_of(record) for record in records]
    specs = [record["data"]["spec"] for record in records]
    if len(set(specs)) == 1:
        return names
    return [f"{name} on {spec}" for name, spec in zip(names, specs, strict=True)]


def rows(records: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> list[Row]:
    """A line for each run, and one for the plain backbone trained in full, whose costs need no training to
    know.
    """
    lines = [_row(name, record) for name, record in zip(names or names_of(records), records, strict=True)]
    plain = records[0]["costs"]["plain"]
    full = Row(
        "full fine-tuning",
        "not run",
        f"{plain['total_parameters']:,} (100 %)",
        on_disk(FLOAT32 * plain["total_parameters"]),
        f"{plain['gmacs']:.3f}",
        "1",
    )
    return [*lines, full]


def _row(name: str, record: Mapping[str, Any]) -> Row:
    found, plain = record["costs"], record["costs"]["plain"]
    share = 100 * found["trained_parameters"] / plain["total_parameters"]
    speed = speed_of(record)
    gmacs = f"{folded_gmacs(record):.3f}" + (" (folded)" if folds(record) else "")
    gmacs += BY_IMAGE if found.get("by_image") else ""
    return Row(
        name,
        f"{main_figure(record['results'])}{marked(record)}",
        f"{found['trained_parameters']:,} ({share:.2g} %)",
        on_disk(record["model_bytes"]),
        gmacs,
        f"{speed['ratio']:.2f}" if speed else "1" if not record["settings"]["methods"] else "not measured",
    )


def in_words(
    records: Sequence[Mapping[str, Any]],
    tested: Sequence[TestedPictures | None] | None = None,
    names: Sequence[str] | None = None,
) -> list[str]:
    """What the first run came to, in sentences, and how each other one compares with it; `tested` says what
    was right picture by picture, where that was kept.
    """
    ours = records[0]
    found, plain = ours["costs"], ours["costs"]["plain"]
    names = names or names_of(records)
    sentences = [accuracy_in_words(name, record) for name, record in zip(names, records, strict=True)]
    sentences += compared(records, tested or [None] * len(records), names)
    whole = FLOAT32 * plain["total_parameters"]
    sentences.append(
        f"{names[0]} trained {found['trained_parameters']:,} parameters where full fine-tuning "
        f"trains {plain['total_parameters']:,}, and the file for this task has "
        f"{on_disk(ours['model_bytes'])} instead of {on_disk(whole)}."
    )
    sentences.append(_operations(ours))
    speed = speed_of(ours)
    if speed:
        low, high = speed["quartiles"]
        sentences.append(
            f"Measured here on batches of {speed['batch_size']}, it takes {speed['ratio']:.2f} of the plain "
            f"backbone's time (half of the rounds between {low:.2f} and {high:.2f})."
        )
    return sentences


def folds(record: Mapping[str, Any]) -> bool:
    """Whether something of the composition folds into the backbone and then costs less."""
    folded = record["costs"].get("folded")
    return bool(folded) and folded["gmacs"] < record["costs"]["gmacs"]


def folded_costs(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The costs of one image or clip, once everything is folded that folds; tokens stay as they were."""
    found: Mapping[str, Any] = record["costs"]
    return {**found, **found["folded"]} if folds(record) else found


def folded_gmacs(record: Mapping[str, Any]) -> float:
    """Billions of multiply-adds of these."""
    return float(folded_costs(record)["gmacs"])


def _operations(record: Mapping[str, Any]) -> str:
    found, plain = folded_gmacs(record), record["costs"]["plain"]["gmacs"]
    change = 100 * (found / plain - 1)
    worded = "as many" if abs(change) < 0.5 else f"{abs(change):.0f} % {'fewer' if change < 0 else 'more'}"
    told = f"One {thing(record)} takes {found:.3f} billion multiply-adds, "
    told += f"the plain backbone {plain:.3f}: {worded}"
    if folds(record):
        unfolded = record["costs"]["gmacs"]
        told += f", once what folds is folded into the backbone (vitrim.merge; {unfolded:.3f} before that)"
    return f"{told}."


def accuracy_in_words(name: str, record: Mapping[str, Any]) -> str:
    """The share of test images that are right, with its interval."""
    results = record["results"]
    if "top1" not in results:
        where = f"{results['images']:,} {results['split']} {things(record)}"
        return f"{name} reaches {main_figure(results)} on {where}{marked(record)}."
    low, high = interval(results["top1"], results["images"])
    return (
        f"{name} gets {100 * results['top1']:.1f} % of {results['images']:,} {results['split']} "
        f"{things(record)} right{marked(record)}; 95 % interval {100 * low:.1f} to {100 * high:.1f} %."
    )


def compared(
    records: Sequence[Mapping[str, Any]],
    tested: Sequence[TestedPictures | None],
    names: Sequence[str] | None = None,
) -> list[str]:
    """The first run beside each of the others: the difference, and in what else they differ."""
    names, sentences = names or names_of(records), []
    for name, record, theirs in zip(names[1:], records[1:], tested[1:], strict=True):
        pair, both = (names[0], name), (records[0], record)
        if all("top1" in each["results"] for each in both):
            sentences.append(difference_in_words(pair, both, paired(tested[0], theirs)))
        if said := unequal_in_words(pair, unequal(*both)):
            sentences.append(said)
    return sentences


def marked(record: Mapping[str, Any]) -> str:
    """What has to stand beside an accuracy whose epoch was chosen on the test images."""
    mark = record["results"].get("mark")
    return f" ({mark})" if mark else ""


def speed_of(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The measured speed of the trained model, folded if it folds, where it was measured."""
    measured = [speed for speed in record.get("speed", []) if speed["name"] != "plain backbone"]
    return measured[-1] if measured else None


def on_disk(size: float) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
