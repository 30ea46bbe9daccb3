"""What NOAH chooses among: how wide each of three tuners is in each block, and the compositions that says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from vitrim.methods.tuners.adapter import Adapter
from vitrim.methods.tuners.lora import ATTENTION_INPUTS, LoRA
from vitrim.methods.tuners.vpt import VPT
from vitrim.network.method import Method

TUNERS = ("prompts", "ranks", "widths")
Option = TypeVar("Option")
Pick = Callable[[Sequence[Any]], Any]  # one of several, at random


@dataclass(frozen=True)
class Subnet:
    """Widths by block; 0 leaves a tuner out of a block."""

    prompts: tuple[int, ...]
    """of VPT"""
    ranks: tuple[int, ...]
    """of LoRA"""
    widths: tuple[int, ...]
    """of the adapter"""

    def __getitem__(self, tuner: str) -> tuple[int, ...]:
        found: tuple[int, ...] = getattr(self, tuner)
        return found

    def methods(self, dropout: float = 0.0) -> tuple[Method, ...]:
        """The same as an ordinary composition: one method for each width of each tuner, at its blocks."""
        found: list[Method] = [VPT(prompts=size, at=at) for size, at in _blocks_by_size(self.prompts)]
        for size, at in _blocks_by_size(self.ranks):
            found.append(LoRA(rank=size, roles=ATTENTION_INPUTS, shared=True, dropout=dropout, at=at))
        for size, at in _blocks_by_size(self.widths):
            found.append(
                Adapter(
                    width=size, form="sequential", activation="quickgelu", dropout=dropout, at=at
                )
            )  # fmt: skip
        return tuple(found)

    def parameters(self, width: int) -> int:
        """How many train in a backbone of tokens of this width, the classifier left out."""
        adapters = sum((2 * width + 1) * size + width for size in self.widths if size)
        return width * sum(self.prompts) + 4 * width * sum(self.ranks) + adapters

    def to_json(self) -> dict[str, list[int]]:
        return {tuner: list(self[tuner]) for tuner in TUNERS}

    def __str__(self) -> str:
        return "; ".join(
            f"{tuner} {','.join(map(str, self[tuner][: depth_of(self[tuner])]))}" for tuner in TUNERS
        )


@dataclass(frozen=True)
class Space:
    """All subnets of a supernet: each tuner stands in the first so many blocks, as wide as chosen in each."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    blocks: int

    def largest(self) -> Subnet:
        return self._same(max(self.widths), max(self.depths))

    def smallest(self) -> Subnet:
        return self._same(min(self.widths), min(self.depths))

    def draw(self, pick: Pick) -> Subnet:
        """Any of them: a depth for each tuner, then a width for each of its blocks."""
        return Subnet(*(self.draw_tuner(pick) for _ in TUNERS))

    def draw_tuner(self, pick: Pick) -> tuple[int, ...]:
        depth = pick(self.depths)
        return self.padded([pick(self.widths) for _ in range(depth)])

    def a_step_smaller(self, subnet: Subnet) -> list[Subnet]:
        """All that have the next smaller depth of a tuner or width of a block, and are alike otherwise."""
        found = []
        for tuner in TUNERS:
            sizes = subnet[tuner][: depth_of(subnet[tuner])]
            others = [self.padded(sizes[:depth]) for depth in _next_below(self.depths, len(sizes))]
            for block, size in enumerate(sizes):
                for width in _next_below(self.widths, size):
                    others.append(self.padded((*sizes[:block], width, *sizes[block + 1 :])))
            found += [replace(subnet, **{tuner: each}) for each in others]
        return found

    def padded(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """With zeros for the blocks behind."""
        return (*sizes, *[0] * (self.blocks - len(sizes)))

    def _same(self, width: int, depth: int) -> Subnet:
        return Subnet(*(self.padded([width] * depth) for _ in TUNERS))


def depth_of(sizes: Sequence[int]) -> int:
    """In how many blocks a tuner stands."""
    return sum(size > 0 for size in sizes)


def _next_below(options: Sequence[int], current: int) -> list[int]:
    """The next smaller option, if there is one."""
    return sorted(option for option in options if option < current)[-1:]


def _blocks_by_size(sizes: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
    """Every size above zero with the blocks that have it, the smallest first."""
    return [
        (size, tuple(block for block, own in enumerate(sizes) if own == size))
        for size in sorted(set(sizes) - {0})
    ]
