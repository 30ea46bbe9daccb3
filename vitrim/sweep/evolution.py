"""Evolution of subnets: mutate and cross the best so far, generation by generation (NOAH, after AutoFormer).

What a generation tries depends on the seed, on its number and on how those before it did, and on nothing
else: so a search that was stopped goes the same way again, over what it had measured.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vitrim.checks import check_positive, check_probability
from vitrim.methods.tuners.subnet import TUNERS, Space, Subnet, depth_of

TRIES = 20_000  # draws in search of a subnet within the cap, or one that was not tried


@dataclass(frozen=True)
class Evolution:
    """How to search. The defaults are those of NOAH's release."""

    population: int = 50
    """subnets in a generation"""
    generations: int = 15
    """how many, the first one drawn at random"""
    parents: int = 10
    """the best so far, which the next generation comes from: half by mutation, half by crossing two"""
    mutation: float = 0.2
    """chance of each block's width to be drawn anew"""
    depth_mutation: float = 0.4
    """chance of each tuner's depth to be drawn anew"""
    most_parameters: int | None = None
    """of a subnet, the classifier left out; not given: no cap"""

    def __post_init__(self) -> None:
        for name in ("population", "generations", "parents"):
            check_positive("search", name, getattr(self, name))
        if self.population < 2:
            raise ValueError(
                "search: population must be at least 2, half of them mutated and half crossed, "
                f"got {self.population}"
            )
        for name in ("mutation", "depth_mutation"):
            check_probability("search", name, getattr(self, name))
        if self.most_parameters is not None:
            check_positive("search", "most_parameters", self.most_parameters)


Measured = tuple[Subnet, float]  # and its accuracy
Told = Callable[[int, Sequence[Measured], int], None]  # generation, ranking so far, how many were new


def evolve(
    space: Space,
    settings: Evolution,
    width: int,
    fitness: Callable[[Subnet], float],
    seed: int,
    tell: Told = lambda generation, ranking, new: None,
) -> list[Measured]:
    """All subnets that were tried, the best first; of equals the one with fewer parameters, then the first.

    Args:
        width: of the backbone's tokens, by which parameters are counted.
        fitness: what to maximise.

    Raises:
        ValueError: if no subnet has as few parameters as asked for.
    """
    check_cap(space, settings, width)
    tried: dict[Subnet, float] = {}
    for generation in range(settings.generations):
        luck = random.Random(f"{seed}/{generation}")
        members = next_generation(space, settings, width, luck, [each for each, _ in ranking(tried, width)])
        new = [subnet for subnet in members if subnet not in tried]
        for subnet in new:
            tried[subnet] = fitness(subnet)
        tell(generation, ranking(tried, width), len(new))
        if not new:
            break  # all there are have been tried
    return ranking(tried, width)


def ranking(tried: dict[Subnet, float], width: int) -> list[Measured]:
    """The best first."""
    return sorted(tried.items(), key=lambda each: (-each[1], each[0].parameters(width)))


def next_generation(
    space: Space, settings: Evolution, width: int, luck: random.Random, ranked: Sequence[Subnet]
) -> list[Subnet]:
    """Mutants and crossings of the best, none tried before; random ones in the first generation, and where
    no more of the others are found. Where hardly any is within the cap, these are made narrower until they
    are."""
    parents, seen = ranked[: settings.parents], set(ranked)
    found: list[Subnet] = []

    def add(make: Callable[[], Subnet], wanted: int, tries: int) -> None:
        for _ in range(tries):
            if len(found) >= wanted:
                return
            subnet = make()
            if subnet not in seen and fits(subnet, settings, width):
                seen.add(subnet)
                found.append(subnet)

    if parents:
        half = settings.population // 2
        add(lambda: mutated(space, luck.choice(parents), settings, luck), half, 10 * settings.population)
        add(lambda: crossed(luck.choice(parents), luck.choice(parents), luck, space), 2 * half,
            10 * settings.population)  # fmt: skip
    add(lambda: space.draw(luck.choice), settings.population, TRIES)
    if settings.most_parameters is not None:
        add(lambda: narrowed(space.draw(luck.choice), space, settings, width, luck), settings.population,
            10 * settings.population)  # fmt: skip
    return found


def fits(subnet: Subnet, settings: Evolution, width: int) -> bool:
    return settings.most_parameters is None or subnet.parameters(width) <= settings.most_parameters


def narrowed(subnet: Subnet, space: Space, settings: Evolution, width: int, luck: random.Random) -> Subnet:
    """Narrower or shallower by a step in one place after another, until it is within the cap: the smallest
    subnet is, as `check_cap` knows."""
    while not fits(subnet, settings, width):
        subnet = luck.choice(space.a_step_smaller(subnet))
    return subnet


def mutated(space: Space, parent: Subnet, settings: Evolution, luck: random.Random) -> Subnet:
    """Depths and widths drawn anew, each with its chance."""
    changed = []
    for tuner in TUNERS:
        sizes = [size for size in parent[tuner] if size]
        if luck.random() < settings.depth_mutation:
            depth = luck.choice(space.depths)
            sizes = [*sizes, *(luck.choice(space.widths) for _ in range(depth - len(sizes)))][:depth]
        sizes = [luck.choice(space.widths) if luck.random() < settings.mutation else size for size in sizes]
        changed.append(space.padded(sizes))
    return Subnet(*changed)


def crossed(one: Subnet, other: Subnet, luck: random.Random, space: Space) -> Subnet:
    """Each tuner as deep as in one of the two, each of its widths from either that has one."""
    found = []
    for tuner in TUNERS:
        depth = luck.choice((depth_of(one[tuner]), depth_of(other[tuner])))
        pairs = list(zip(one[tuner], other[tuner], strict=True))[:depth]
        found.append(space.padded([luck.choice([size for size in pair if size]) for pair in pairs]))
    return Subnet(*found)


def check_cap(space: Space, settings: Evolution, width: int) -> None:
    """Refuse a cap below the smallest subnet."""
    smallest = space.smallest().parameters(width)
    if settings.most_parameters is not None and settings.most_parameters < smallest:
        raise ValueError(
            f"most_parameters={settings.most_parameters:,} is below the smallest subnet's {smallest:,}; "
            "raise it, or let NOAH choose among smaller widths or depths"
        )
