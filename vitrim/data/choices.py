"""Looking a user's word up in a table: the entry, or a sentence that lists what there is."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

Entry = TypeVar("Entry")


def choose(what: str, given: str, table: Mapping[str, Entry]) -> Entry:
    """`table[given]`, or a ValueError that lists the names and suggests the nearest."""
    if given in table:
        return table[given]
    near = get_close_matches(given.lower(), table, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"no {what} {given!r}; {hint}there are: {', '.join(table)}")
