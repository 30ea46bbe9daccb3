"""What can be proposed: for each reducer a ladder of settings from gentle to strong, for each tuner one from
large to small.

A ladder is ordered, so the first step that is cheap enough is found by bisection.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields

from vitrim.checks import did_you_mean
from vitrim.methods.reducers import Bipartite, DynamicViT, EViT, Pool, ToMe
from vitrim.methods.tuners import SSF, Adapter, DenseAdapter, LoRA, RepAdapter
from vitrim.network.method import Method

KEEPS = [round(1 - 0.02 * step, 2) for step in range(1, 46)]  # .98 to .10
USUAL = 8  # the width or rank of the papers' VTAB-1K rows
WIDTHS = (64, 32, 16, USUAL, 4, 2, 1)


def reducer_ladders(depth: int, patches: int) -> dict[str, list[Method]]:
    """Settings of each reducer for a backbone of so many blocks and patches, each removing more than the one
    before.
    """
    quarters = tuple(sorted({depth // 4, depth // 2, 3 * depth // 4}))
    late_to_early = range(depth - 2, 0, -1)  # a head that reads one token gains nothing in the last
    return {
        "EViT": [EViT(keep=keep, at=quarters) for keep in KEEPS],
        "DynamicViT": [DynamicViT(keep=keep, at=quarters) for keep in KEEPS],
        "ToMe": [ToMe(r=count) for count in range(1, max(2, patches // 2))],
        "Bipartite": [Bipartite(at=(block,)) for block in late_to_early],
        "Pool": [Pool(at=(block,)) for block in late_to_early],
    }


def tuner_ladders() -> dict[str, list[Method]]:
    """Settings of each tuner, each smaller on disk than the one before."""
    return {
        "LoRA": [LoRA(rank=width) for width in WIDTHS],
        "Adapter": [*(Adapter(width=width) for width in WIDTHS), *_one_bit()],
        "DenseAdapter": [DenseAdapter(width=width) for width in WIDTHS],
        "RepAdapter": [RepAdapter(width=width) for width in WIDTHS if width % 2 == 0],  # two groups
        "SSF": [SSF()],
    }


def _one_bit() -> Iterator[Method]:
    yield from (Adapter(width=width, bias=False, bits=1) for width in (32, USUAL))


def usual(ladder: list[Method]) -> Method:
    """The step of the papers' usual size, or the only one."""
    sizes = [getattr(method, "width", getattr(method, "rank", USUAL)) for method in ladder]
    return ladder[sizes.index(USUAL)]


def short(method: Method) -> str:
    """Its text with what was chosen and what is unlike the default; `parse_method` reads it."""
    chosen = ("keep", "at", "r", "rank", "width")
    shown = [
        f"{field.name}={getattr(method, field.name)!r}"
        for field in fields(method)
        if getattr(method, field.name) != field.default
        or (field.name in chosen and getattr(method, field.name) is not None)
    ]
    return f"{type(method).__name__}({', '.join(shown)})"


def first_within(ladder: Sequence[Method], fits: Callable[[Method], bool]) -> Method | None:
    """The first step that fits, by bisection, or None: all steps after one that fits must fit as well.

    >>> first_within([1, 5, 9, 12], lambda step: step > 6)
    9
    """
    if not ladder or not fits(ladder[-1]):
        return None
    low, high = 0, len(ladder) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(ladder[middle]) else (middle + 1, high)
    return ladder[low]


def only(ladders: dict[str, list[Method]], names: Sequence[str] | None, kind: str) -> dict[str, list[Method]]:
    """The ladders of these names, all if None."""
    for name in names or ():
        if name not in ladders:
            raise ValueError(f"no {kind} {name!r} to plan with; {did_you_mean(name, ladders)}")
    return ladders if names is None else {name: ladders[name] for name in names}
