"""Two runs set against each other: the interval of each, a paired test where the same pictures were tested,
and every setting in which they differ. A difference inside its noise is called that.

Intervals are Wilson's at 95 %; pairs are McNemar's exact test: of the pictures that only one of the two runs
gets right, were as many right in one as in the other? Both say how much the choice of test pictures can do.
What another seed would do is not in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrim.runs.tested import TestedPictures, right_alone
from vitrim.settings.training import Training

LEVEL = 0.05
NOT_COMPARED = (
    "workers", "bad_images", "gradient_checkpointing", "cache_frozen", "deterministic", "select", "patience",
)  # fmt: skip


@dataclass(frozen=True)
class Paired:
    """Two runs on the same pictures."""

    images: int
    only_first: int
    """pictures right in the first run alone"""
    only_second: int
    p: float
    """chance of so uneven a split, or a more uneven one, if neither were better"""

    @property
    def shown(self) -> bool:
        """Whether it is more than noise."""
        return self.p < LEVEL


def things(record: Mapping[str, Any]) -> str:
    """What the data of a run holds, in sentences: images, or clips."""
    return str(record["data"].get("called", "images"))


def thing(record: Mapping[str, Any]) -> str:
    """One of them."""
    return things(record).removesuffix("s")


def interval(share: float, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of images."""
    from scipy.stats import binomtest

    found = binomtest(round(share * images), images).proportion_ci(1 - LEVEL, method="wilson")
    return float(found.low), float(found.high)


def paired(first: TestedPictures | None, second: TestedPictures | None) -> Paired | None:
    """McNemar's exact test; None where the runs were not tested on the same pictures."""
    from scipy.stats import binomtest

    if first is None or second is None or first.pictures != second.pictures:
        return None
    ours, theirs = right_alone(first.right, second.right)
    p = float(binomtest(ours, ours + theirs).pvalue) if ours + theirs else 1.0
    return Paired(len(first.right), ours, theirs, p)


def difference_in_words(
    names: tuple[str, str], records: tuple[Mapping[str, Any], Mapping[str, Any]], found: Paired | None
) -> str:
    """How the first run does beside the second one, and whether that is more than noise."""
    first, second = (record["results"] for record in records)
    points = 100 * (first["top1"] - second["top1"])
    if found is None:
        return (
            f"{names[0]} and {names[1]} were not tested picture by picture on the same ones (or by a version "
            f"that did not keep that), so nothing is said about their difference of {points:+.1f} points "
            "beyond the two intervals."
        )
    alone = (
        f"Of the same {found.images:,} {things(records[0])}, {found.only_first} are right with {names[0]} "
        f"alone and {found.only_second} with {names[1]} alone"
    )
    test = f"McNemar's exact test, p = {in_digits(found.p)}"
    if not found.shown:
        return f"{alone}: a difference of {points:+.1f} points is within the noise ({test})."
    better = names[0] if found.only_first > found.only_second else names[1]
    return f"{alone}: {better} is better by {abs(points):.1f} points, more than noise ({test})."


def in_digits(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-4 else "below 0.0001"


def unequal(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Every setting other than the methods in which two runs differ: name, the first run's value, the
    second's.
    """
    return [
        (name, ours, theirs)
        for name, ours, theirs in (
            (name, _settings(first).get(name), _settings(second).get(name)) for name in _settings(first)
        )
        if ours != theirs
    ]


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """What can make two runs unequal; settings a version did not have yet are at their defaults."""
    settings, results = record["settings"], record["results"]
    training = Training().to_json() | settings["training"]
    where = record["preprocess"]
    return {
        "backbone": settings["model"],
        "weights": record["backbone"].get("digest", record["backbone"]["kind"]),
        "data": record["data"]["spec"],
        "image_size": " x ".join(map(str, where["image_size"])),
        **{name: value for name, value in training.items() if name not in NOT_COMPARED},
        "weights kept": results["select"],
        "tested on": f"{results['images']:,} {results['split']} {things(record)}",
    }


def unequal_in_words(names: tuple[str, str], found: Sequence[tuple[str, Any, Any]]) -> str:
    """One sentence; empty where nothing but the methods differs."""
    if not found:
        return ""
    told = ", ".join(f"{name} {_short(ours)} against {_short(theirs)}" for name, ours, theirs in found)
    return f"{names[0]} and {names[1]} differ in more than their methods: {told}."


def _short(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
