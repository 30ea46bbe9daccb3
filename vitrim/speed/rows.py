"""What was measured: one row for each candidate and question."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from vitrim.measuring.bench import Turn

PLAIN, AGAIN = "plain backbone", "plain backbone again"


class Candidate(NamedTuple):
    """Who takes turns: a model, and the way it is run."""

    way: str
    name: str


@dataclass(frozen=True)
class Row:
    """How one candidate did.

    Attributes:
        figure: "latency" (batch 1), "throughput" (each at its best batch), "batch" or "training step".
        way: how it was run, a key of `WAYS`.
        name: "plain backbone", "plain backbone again", "as trained", "folded" or "with methods".
        batch_size: images at a time.
        milliseconds: for such a batch, median; of this moment and this machine only.
        images_per_second: the same as a rate.
        ratio: median over rounds of the time for an image divided by the plain backbone's in the same way.
        quartiles: of that ratio.
        cpu_ratio: the same with the processor time of this process.
        to_eager: `ratio` to the plain backbone in eager mode; None where that was not measured.
        macs: multiply-accumulates for an image, plain = 1; of a training step None.
        memory_mib: peak above what was held before (weights, and for a step the images); None where the
            system does not tell.
    """

    figure: str
    way: str
    name: str
    batch_size: int
    milliseconds: float
    images_per_second: float
    ratio: float
    quartiles: tuple[float, float]
    cpu_ratio: float
    to_eager: float | None
    macs: float | None
    memory_mib: float | None


@dataclass(frozen=True)
class Measured:
    """All rows, what was left out and why, and what they were measured with."""

    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    record: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {**self.record, "left_out": list(self.left_out), "rows": [asdict(row) for row in self.rows]}


def rows_of(
    figure: str,
    turns: Mapping[Candidate, Sequence[Turn]],
    batches: Mapping[Candidate, int],
    macs: Mapping[str, float],
    memory: Mapping[Candidate, float | None],
) -> list[Row]:
    """Every candidate against the plain backbone in the same way."""
    rows = []
    for candidate, own in turns.items():
        batch = batches[candidate]
        ratios = _ratios(candidate, Candidate(candidate.way, PLAIN), turns, batches)
        low, middle, high = statistics.quantiles([ratio.wall for ratio in ratios], n=4)
        eager = _ratios(candidate, Candidate("eager", PLAIN), turns, batches)
        seconds = statistics.median(turn.wall for turn in own)
        rows.append(
            Row(
                figure,
                *candidate,
                batch_size=batch,
                milliseconds=1000 * seconds,
                images_per_second=batch / seconds,
                ratio=middle,
                quartiles=(low, high),
                cpu_ratio=statistics.median(ratio.cpu for ratio in ratios),
                to_eager=statistics.median(ratio.wall for ratio in eager) if eager else None,
                macs=macs.get(candidate.name),
                memory_mib=memory.get(candidate),
            )
        )
    return rows


def _ratios(
    ours: Candidate,
    theirs: Candidate,
    turns: Mapping[Candidate, Sequence[Turn]],
    batches: Mapping[Candidate, int],
) -> list[Turn]:
    """Time for an image to time for an image, round by round."""
    if theirs not in turns:
        return []
    share = batches[theirs] / batches[ours]
    pairs = zip(turns[ours], turns[theirs], strict=True)
    return [Turn(own.wall / other.wall * share, own.cpu / other.cpu * share) for own, other in pairs]
