"""The evolution of subnets: repeatable, within its cap, better than chance, and the same after a stop."""

import random
from collections.abc import Callable

import pytest

from vitrim.methods.tuners.subnet import TUNERS, Space, Subnet, depth_of
from vitrim.sweep.evolution import Evolution, crossed, evolve, mutated

SPACE = Space(widths=(1, 5, 10), depths=(3, 6, 9, 12), blocks=12)
WIDTH = 64
SETTINGS = Evolution(population=20, generations=8, parents=5)


def shape(subnet: Subnet) -> float:
    """Best: prompts narrow and shallow, ranks wide in even blocks, adapters of depth 6."""
    ranks = sum((size == 10) == (block % 2 == 0) for block, size in enumerate(subnet.ranks))
    return -sum(subnet.prompts) / 120 + ranks / 12 - abs(depth_of(subnet.widths) - 6) / 6


def is_in_space(subnet: Subnet) -> bool:
    return all(
        depth_of(sizes) in SPACE.depths
        and set(sizes[: depth_of(sizes)]) <= set(SPACE.widths)
        and not any(sizes[depth_of(sizes) :])
        for sizes in (subnet[tuner] for tuner in TUNERS)
    )


def test_the_seed_decides_everything():
    once, again = (evolve(SPACE, SETTINGS, WIDTH, shape, seed=3) for _ in range(2))
    assert once == again and len(once) == 160 == len(dict(once))
    assert evolve(SPACE, SETTINGS, WIDTH, shape, seed=4) != once
    assert all(is_in_space(subnet) for subnet, _ in once)
    assert [fitness for _, fitness in once] == sorted((shape(each) for each, _ in once), reverse=True)


def test_it_finds_better_ones_than_as_many_draws():
    found = evolve(SPACE, SETTINGS, WIDTH, shape, seed=0)[0][1]
    luck = random.Random(0)
    assert found > max(shape(SPACE.draw(luck.choice)) for _ in range(160)) + 0.1


def test_of_equals_the_smaller_comes_first():
    ranked = evolve(SPACE, SETTINGS, WIDTH, lambda subnet: 0.5, seed=1)
    counts = [subnet.parameters(WIDTH) for subnet, _ in ranked]
    assert counts == sorted(counts)


def test_every_candidate_is_within_the_cap():
    cap = SPACE.smallest().parameters(WIDTH) * 3
    ranked = evolve(SPACE, Evolution(20, 4, 5, most_parameters=cap), WIDTH, shape, seed=0)
    assert len(ranked) == 80 and all(subnet.parameters(WIDTH) <= cap for subnet, _ in ranked)
    with pytest.raises(ValueError, match="below the smallest subnet's"):
        evolve(SPACE, Evolution(most_parameters=10), WIDTH, shape, seed=0)


@pytest.mark.parametrize(("above", "at_least"), [(0, 1), (WIDTH * 4, 2), (WIDTH * 40, 20)])
def test_a_tight_cap_still_finds_what_is_within_it(above, at_least):
    """Draws hardly ever do: the smallest subnet is one of millions."""
    cap = SPACE.smallest().parameters(WIDTH) + above
    ranked = evolve(SPACE, Evolution(20, 2, 5, most_parameters=cap), WIDTH, shape, seed=0)
    found = [subnet for subnet, _ in ranked]
    assert len(set(found)) == len(found) >= at_least
    assert all(subnet.parameters(WIDTH) <= cap and is_in_space(subnet) for subnet in found)
    assert above or found == [SPACE.smallest()]


def test_a_step_smaller_is_the_next_in_one_place():
    assert SPACE.a_step_smaller(SPACE.smallest()) == []
    largest = SPACE.largest()
    steps = SPACE.a_step_smaller(largest)
    assert len(set(steps)) == 3 * (12 + 1) and all(is_in_space(each) for each in steps)
    for each in steps:
        pairs = [pair for tuner in TUNERS for pair in zip(largest[tuner], each[tuner], strict=True)]
        changed = [(before, after) for before, after in pairs if before != after]
        assert changed in ([(10, 5)], [(10, 0)] * 3)


def counting(limit: int) -> tuple[Callable[[Subnet], float], list[Subnet]]:
    asked: list[Subnet] = []

    def fitness(subnet: Subnet) -> float:
        if len(asked) == limit:
            raise KeyboardInterrupt
        asked.append(subnet)
        return shape(subnet)

    return fitness, asked


@pytest.mark.parametrize("limit", [0, 7, 20, 33, 159])
def test_stopped_anywhere_it_asks_the_same_again(limit):
    whole_fitness, whole = counting(1000)
    expected = evolve(SPACE, SETTINGS, WIDTH, whole_fitness, seed=2)
    fitness, asked = counting(limit)
    with pytest.raises(KeyboardInterrupt):
        evolve(SPACE, SETTINGS, WIDTH, fitness, seed=2)
    assert asked == whole[:limit]
    known = {subnet: shape(subnet) for subnet in asked}
    assert evolve(SPACE, SETTINGS, WIDTH, lambda s: known.get(s, shape(s)), seed=2) == expected


def test_a_space_that_is_soon_exhausted_ends_early():
    tiny = Space(widths=(1,), depths=(1, 2), blocks=2)
    assert len(evolve(tiny, Evolution(population=20), WIDTH, lambda subnet: 0.0, seed=0)) == 8


def test_children_come_from_their_parents():
    luck = random.Random(0)
    for _ in range(50):
        one, other = SPACE.draw(luck.choice), SPACE.draw(luck.choice)
        child = crossed(one, other, luck, SPACE)
        assert is_in_space(child) and is_in_space(mutated(SPACE, one, SETTINGS, luck))
        for tuner in TUNERS:
            assert depth_of(child[tuner]) in (depth_of(one[tuner]), depth_of(other[tuner]))
            for size, *pair in zip(child[tuner], one[tuner], other[tuner], strict=True):
                assert size == 0 or size in pair
    assert mutated(SPACE, one, Evolution(mutation=0, depth_mutation=0), luck) == one


@pytest.mark.parametrize(
    "wrong",
    [{"population": 0}, {"population": 1}, {"mutation": 1.5}, {"mutation": -0.1}, {"depth_mutation": 2},
     {"parents": 0}, {"most_parameters": -1}],
)  # fmt: skip
def test_settings_are_refused_in_a_sentence(wrong):
    with pytest.raises(ValueError, match=f"search: {next(iter(wrong))} must be"):
        Evolution(**wrong)
