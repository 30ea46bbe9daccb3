"""Protocols in words: what `vitrim list protocols` prints, and the table in docs/training.md.

The table is made by `python -m vitrim.settings.protocols.describe`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from vitrim.settings.protocols import PROTOCOLS
from vitrim.settings.protocols.protocol import Protocol
from vitrim.settings.training import Training

HEADINGS = ("protocol", "follows", "settings other than usual", "weights", "printed", "left open")
REPORTED = {"best-on-test": "best on test", "val": "picked on val", "last": "of the last epoch"}


def settings(protocol: Protocol) -> str:
    """The training settings that are not the usual ones, and for how many tasks some have other values."""
    usual = Training().to_json()
    values = [f"{k} {v}" for k, v in protocol.training.to_json().items() if v != usual[k]]
    if protocol.per_task:
        values.append(f"values for {len(protocol.per_task)} tasks")
    if protocol.searched:
        values.append("searched per task: " + ", ".join(protocol.searched))
    return ", ".join(values) or "none"


def lines() -> Iterator[str]:
    """All protocols, for a terminal."""
    for name, protocol in PROTOCOLS.items():
        yield f"{name}: {protocol.follows}"
        yield f"    {settings(protocol)}"
        weights = protocol.checkpoint or "weights that are not stated"
        yield f"    from {weights}; its figures are {REPORTED[protocol.reported]}"
        if protocol.unstated:
            yield f"    leaves open: {', '.join(protocol.unstated)}"
        if protocol.differs:
            yield f"    does besides: {'; '.join(protocol.differs)}"


def table() -> str:
    """All protocols, in Markdown."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(_row(name) for name in PROTOCOLS)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _row(name: str) -> tuple[str, ...]:
    protocol = PROTOCOLS[name]
    return (
        f"`{name}`",
        protocol.follows,
        settings(protocol),
        protocol.checkpoint or "not stated",
        REPORTED[protocol.reported],
        ", ".join(protocol.unstated),
    )


if __name__ == "__main__":
    sys.stdout.write(table())
