"""Every field of a record, put wrong in every way that hostile or unlucky files are."""

import copy
import json
from collections.abc import Iterator
from typing import Any

DEEP = "@deep@"
HUGE = "@huge@"
ODD: dict[str, Any] = {
    "null": None,
    "text": "x",
    "number": 7,
    "true": True,
    "list": [],
    "names": {},
    "names of names": {"a": {"b": None}},
    "negative": -1,
    "many": 10**9,
    "64 bits": 2**63 - 1,
    "400 digits": 10**400,
    "NaN": float("nan"),
    "5000 digits": HUGE,
    "deep": DEEP,
    "long": "x" * 101_000,
}
BIG = ("5000 digits", "deep")  # tried at the top only: the parser looks at them before any field


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands: every key, and the first entry of every list."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def mutations(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What was put wrong, and the record as text."""
    for path in places(record):
        for name, odd in [("gone", None), *ODD.items()]:
            if name in BIG and len(path) > 1:
                continue
            changed = copy.deepcopy(record)
            owner: Any = changed
            for key in path[:-1]:
                owner = owner[key]
            if name == "gone":
                del owner[path[-1]]
            else:
                owner[path[-1]] = odd
            yield f"{'.'.join(map(str, path))}: {name}", as_text(changed)


def as_text(record: Any) -> str:
    """JSON, with what Python could not write itself."""
    text = json.dumps(record)
    text = text.replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000)
    return text.replace(f'"{HUGE}"', "9" * 5000)


def refusal(error: Exception) -> str:
    """The sentence of a refusal; whatever else was raised is raised again, for the test to fail with."""
    if not isinstance(error, ValueError | OSError | ImportError | FloatingPointError):
        raise error
    said = str(error)
    assert said and "\n" not in said and len(said) < 2000, said
    return said
