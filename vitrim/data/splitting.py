"""Splitting data that comes without a split: the same images on every machine, for ever."""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256

from vitrim.data.source import Spec, Split


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    """The names in an order that depends on nothing but the names and the seed.

    Sorted by a digest instead of shuffled by a generator: the order does not change with the file system, the
    library version or the platform, and adding an image leaves the others where they were.
    """
    return sorted(
        names, key=lambda name: (sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest(), name)
    )


def split_70_10_20(names: Sequence[str], seed: int) -> dict[str, list[str]]:
    """One class's images as train, val and test; at least one each, so it takes three images."""
    if len(names) < 3:
        raise ValueError(f"splitting a class takes at least 3 images but it has {len(names)}")
    order = shuffled(names, seed)
    test = max(1, (2 * len(order) + 5) // 10)  # a fifth, rounded half up
    val = max(1, (len(order) + 5) // 10)
    return {"train": order[test + val :], "val": order[test : test + val], "test": order[:test]}


def split_whole(whole: Split, keys: Sequence[str], classes: Sequence[str], seed: int) -> dict[str, Split]:
    """Train, val and test of a data set that comes in one piece, every class split 70 / 10 / 20.

    `keys` name the images without saying where they lie, so that a copy elsewhere is split alike.
    """
    keys, groups = _told_apart(keys), by_class(whole)
    if len(whole) < 3:
        raise ValueError(f"splitting takes at least 3 images but there are {len(whole)}")
    small = [f"{classes[label]} ({len(group)})" for label, group in groups.items() if len(group) < 3]
    if small:
        raise ValueError(f"splitting takes at least 3 images per class, too few in: {some(small)}")
    chosen: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for group in groups.values():
        places = {keys[place]: place for place in group}
        for split, names in split_70_10_20(list(places), seed).items():
            chosen[split] += [places[name] for name in names]
    return {split: part_of(whole, sorted(places)) for split, places in chosen.items()}


def hold_out(spec: Spec, splits: Mapping[str, Split], keys: Sequence[str] | None = None) -> dict[str, Split]:
    """The splits with a share of every class's training images held out, where the spec has val=SHARE."""
    share = spec.share("val")
    if share is None:
        if "seed" in spec.options:
            raise ValueError(
                f"{spec} comes split: a seed has no effect, leave it out (or hold out validation images "
                "with val=0.1)"
            )
        return dict(splits)
    if "val" in splits:
        raise ValueError(f"{spec} has validation images of its own; leave val={spec.options['val']} out")
    train, seed = splits["train"], spec.integer("seed", spec.seed)
    names = _told_apart(keys or train.names)
    kept: list[int] = []
    held: list[int] = []
    for group in by_class(train).values():
        places = {names[place]: place for place in group}
        order = [places[name] for name in shuffled(list(places), seed)]
        count = min(len(order) - 1, max(1, round(share * len(order))))  # both sides keep an image
        held += order[:count]
        kept += order[count:]
    return {
        **splits,
        "train": part_of(train, sorted(kept)),
        "val": part_of(train, sorted(held)),
        "trainval": train,
    }


def by_class(split: Split) -> dict[int, list[int]]:
    """The places of every class's images, in label order; one group of all where labels are no classes."""
    if split.labels and not isinstance(split.labels[0], int):
        return {0: list(range(len(split)))}
    groups: dict[int, list[int]] = {label: [] for label in sorted(set(split.labels))}
    for place, label in enumerate(split.labels):
        groups[label].append(place)
    return groups


def part_of(split: Split, places: Sequence[int]) -> Split:
    return Split(
        split.read, [split.names[place] for place in places], [split.labels[place] for place in places]
    )


def _told_apart(keys: Sequence[str]) -> list[str]:
    """The keys, with a number added to every repetition."""
    met: Counter[str] = Counter()
    apart = []
    for key in keys:
        met[key] += 1
        apart.append(key if met[key] == 1 else f"{key}#{met[key]}")
    return apart


def some(names: Sequence[str]) -> str:
    """The first names of many."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
