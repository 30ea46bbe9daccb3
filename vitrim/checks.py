"""Refusals shared by all methods: one sentence that says what was given, what is allowed and, where it is not
obvious, what to do."""

import difflib
import math
from collections.abc import Collection, Iterable
from typing import Any


def check_one_of(owner: str, name: str, value: Any, allowed: Collection[Any]) -> None:
    """Refuse a value that is not one of a few."""
    if value not in tuple(allowed):  # which compares: a list is in no table by hash
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ValueError(f"{owner}: {name} must be one of {choices}, got {value!r}")


def check_share(owner: str, name: str, value: Any) -> None:
    """Refuse a value outside (0, 1]."""
    if not is_number(value) or not 0 < value <= 1:
        raise ValueError(f"{owner}: {name} must be above 0 and at most 1, got {value!r}")


def check_probability(owner: str, name: str, value: Any) -> None:
    """Refuse a value outside [0, 1)."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{owner}: {name} must be at least 0 and below 1, got {value!r}")


def check_positive(owner: str, name: str, value: Any) -> None:
    """Refuse anything but a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{owner}: {name} must be a whole number of at least 1, got {value!r}")


def check_number(owner: str, name: str, value: Any) -> None:
    """Refuse anything but a finite number."""
    if not is_number(value) or not math.isfinite(value):
        raise ValueError(f"{owner}: {name} must be a number, got {value!r}")


def is_number(value: Any) -> bool:
    """A real number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def block_indices(owner: str, value: Any) -> tuple[int, ...]:
    """Block indices from an integer or a sequence of them, each once, in ascending order."""
    given = (value,) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise ValueError(
            f"{owner}: at must be a block index or a sequence of them, counted from 0, got {value!r}"
        )
    indices = tuple(given)
    if not indices or not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in indices):
        raise ValueError(f"{owner}: at must hold block indices counted from 0, got {value!r}")
    if len(set(indices)) != len(indices):
        raise ValueError(f"{owner}: at names a block twice: {value!r}; name each once")
    return tuple(sorted(indices))


def several(owner: str, name: str, value: Any, one: type) -> tuple[Any, ...]:
    """A setting that is one value of a type or a sequence of them, as a tuple; members are not checked."""
    given = (value,) if isinstance(value, one) else value
    if not isinstance(given, Iterable) or isinstance(given, str):
        what = "a name" if one is str else "a whole number"
        raise ValueError(f"{owner}: {name} must be {what} or a sequence of them, got {value!r}")
    return tuple(given)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A half sentence for an error: the close matches, or all there is."""
    names = list(known)
    by_lower = {name.lower(): name for name in names}
    close = [by_lower[match] for match in difflib.get_close_matches(given.lower(), by_lower, n=3, cutoff=0.6)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known are {', '.join(names)}" if len(names) <= 40 else f"there are {len(names)} of them"


YAML_NODES, YAML_DEPTH = 100_000, 50  # far more than any settings need


def check_yaml(text: str, called: str) -> None:
    """Refuse YAML that unfolds into more than it says: anchors of anchors (nine lines can stand for a billion
    values), a value that holds itself, nesting that exhausts the stack. Reads the events, builds nothing.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    sizes: dict[str, int] = {}  # of what an anchor stands for, unfolded
    open_ones: list[tuple[str | None, int]] = [(None, 0)]  # anchor, and the nodes before it
    count = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_ones):
                raise ValueError(f"{called}: the value &{event.anchor} holds itself; write it out")
            count += sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_ones.append((event.anchor, count - 1))
            elif event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_ones.pop()
            if anchor:
                sizes[anchor] = count - before
        if count > YAML_NODES or len(open_ones) > YAML_DEPTH:
            what = f"{YAML_NODES:,} values" if count > YAML_NODES else f"{YAML_DEPTH} levels"
            raise ValueError(
                f"{called} unfolds into more than {what}; write fewer, without anchors in anchors"
            )
