"""What sweep.json may say."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vitrim.bounds import Format, Name, Open

MOST_RUNS = 1_000_000


class SweepRun(Open):
    """A run of a sweep: what the sweep calls it, and its folder below that of the sweep."""

    name: Name
    folder: Annotated[str, Field(min_length=1, max_length=4096)]


class SweepRecord(Open):
    """sweep.json"""

    FORMAT: ClassVar[int] = 1
    format: Format = 1
    runs: Annotated[list[SweepRun], Field(max_length=MOST_RUNS)]
