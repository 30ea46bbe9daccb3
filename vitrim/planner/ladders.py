"""What can be proposed: for each reducer a ladder of settings from gentle to strong, for each tuner one from
large to small.

Ladders are made from the tables, registered methods included. What is turned is found in a method's settings:
`r`, `keep` or one block `at` of a reducer; `width`, `rank` or `prompts` of a tuner; a method with none of
them has its example alone. A ladder is ordered, so the first step that is cheap enough is found by bisection.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

from vitrim.checks import did_you_mean, is_number
from vitrim.methods.reducers import PYRA
from vitrim.methods.tables import REDUCERS, TUNERS
from vitrim.methods.tuners import Adapter, FisherDelta
from vitrim.network.method import Method
from vitrim.network.model import StagedViT

KEEPS = [round(1 - 0.02 * step, 2) for step in range(1, 46)]  # .98 to .10
USUAL = 8  # the width or rank of the papers' VTAB-1K rows
WIDTHS = (64, 32, 16, USUAL, 4, 2, 1)
SIZES = ("width", "rank", "prompts")


def reducer_ladders(bare: StagedViT) -> dict[str, list[Method]]:
    """Settings of each reducer that fit the backbone, each removing more than the one before."""
    ladders = {name: list(_reductions(kind.example(bare), bare)) for name, kind in REDUCERS.items()}
    merged = range(1, bare.patch_count // 2)
    ladders["PYRA"] = list(_varied(PYRA.example(bare), "schedule", map(partial(PYRA.even, bare), merged)))
    return ladders


def tuner_ladders(bare: StagedViT) -> dict[str, list[Method]]:
    """Settings of each tuner, each smaller on disk than the one before."""
    offered = {name: kind for name, kind in TUNERS.items() if kind.proposed}
    ladders = {name: list(_sizes(kind.example(bare))) for name, kind in offered.items()}
    ladders["Adapter"] += [Adapter(width=width, bias=False, bits=1) for width in (32, USUAL)]
    # With a share of the top scores, how much trains is known only once the images have chosen
    ladders["FisherDelta"] = [FisherDelta(top=None, connections=count) for count in (20, 15, 8, 4, 2, 1)]
    return ladders


def _reductions(example: Method, bare: StagedViT) -> Iterator[Method]:
    settings = {field.name: getattr(example, field.name) for field in fields(example)}
    at = settings.get("at")
    if isinstance(settings.get("r"), int):
        yield from _varied(example, "r", range(1, max(2, bare.patch_count // 2)))
    elif is_number(settings.get("keep")):
        yield from _varied(example, "keep", KEEPS)
    elif isinstance(at, tuple) and len(at) == 1:  # a head that reads one token gains nothing in the last
        yield from _varied(example, "at", ((block,) for block in range(bare.depth - 2, 0, -1)))
    else:
        yield example


def _sizes(example: Method) -> Iterator[Method]:
    name = _size_name(example)
    if name is None:
        yield example
        return
    yield from _varied(example, name, sorted({*WIDTHS, getattr(example, name)}, reverse=True))


def _varied(example: Method, name: str, values: Iterable[Any]) -> Iterator[Method]:
    """The example with other values of one setting, without those it refuses (an odd width in two groups)."""
    for value in values:
        try:
            yield replace(example, **{name: value})
        except ValueError:
            continue


def _size_name(method: Method) -> str | None:
    names = {field.name for field in fields(method)}
    return next((name for name in SIZES if name in names and isinstance(getattr(method, name), int)), None)


def usual(ladder: Sequence[Method]) -> Method:
    """The step of the papers' usual size, or the smallest."""
    sizes = [getattr(method, _size_name(method) or "", None) for method in ladder]
    return ladder[sizes.index(USUAL)] if USUAL in sizes else ladder[-1]


def short(method: Method) -> str:
    """Its text with what was chosen and what is unlike the default; `parse_method` reads it."""
    chosen = ("keep", "at", "r", *SIZES)
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
