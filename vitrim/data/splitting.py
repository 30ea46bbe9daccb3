"""Splitting data that comes without a split: the same images on every machine, for ever."""

from collections.abc import Sequence
from hashlib import sha256


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    """The names in an order that depends on nothing but the names and the seed.

    Sorted by a digest instead of shuffled by a generator: the order does not change with the file system, the
    library version or the platform, and adding an image leaves the others where they were.
    """
    return sorted(names, key=lambda name: (sha256(f"{seed}/{name}".encode()).digest(), name))


def split_70_10_20(names: Sequence[str], seed: int) -> dict[str, list[str]]:
    """One class's images as train, val and test; at least one each, so it takes three images."""
    if len(names) < 3:
        raise ValueError(f"splitting a class takes at least 3 images but it has {len(names)}")
    order = shuffled(names, seed)
    test = max(1, (2 * len(order) + 5) // 10)  # a fifth, rounded half up
    val = max(1, (len(order) + 5) // 10)
    return {"train": order[test + val :], "val": order[test : test + val], "test": order[:test]}
