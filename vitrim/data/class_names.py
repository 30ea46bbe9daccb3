"""Class numbers and names from whatever a data set calls its classes."""

from collections.abc import Iterable, Sequence
from pathlib import PurePath


def numbered(given: Iterable[str]) -> dict[str, int]:
    """Every different class mark with its number: whole numbers in their order, words by the alphabet."""
    marks = set(given)
    whole = all(mark.lstrip("-").isascii() and mark.lstrip("-").isdigit() for mark in marks)
    order = sorted(marks, key=(lambda mark: (int(mark), mark)) if whole else None)  # type: ignore[arg-type]
    return {mark: number for number, mark in enumerate(order)}


def folder_names(paths: Sequence[str], labels: Sequence[int], count: int) -> tuple[str, ...] | None:
    """The folders the images lie in, where every class has one of its own; else None."""
    names: dict[int, str] = {}
    for path, label in zip(paths, labels, strict=True):
        if names.setdefault(label, PurePath(path).parent.name) != PurePath(path).parent.name:
            return None
    found = tuple(names.get(label, "") for label in range(count))
    return found if len(set(found)) == count and all(found) else None


def same_but_for_case(names: Sequence[str]) -> list[str]:
    """Pairs of names that differ in capitals or spaces alone, which are one class written twice."""
    met: dict[str, str] = {}
    pairs = []
    for name in names:
        other = met.setdefault(" ".join(name.casefold().split()), name)
        if other != name:
            pairs.append(f"{other!r} and {name!r}")
    return pairs
