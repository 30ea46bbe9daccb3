"""Measured speed, side by side: the candidates take turns on the same images, so that a noisy machine is
noisy for all.

The figure is the median over rounds of (time of the candidate / time of the first one in the same round),
with quartiles. Absolute times depend on the moment; ratios of one run do not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from vitrim.compose import merge
from vitrim.measuring.devices import pick_device
from vitrim.network.model import StagedViT

LEAST_SECONDS = 0.05  # of one measurement; shorter ones are repeated
COLD_SECONDS = 0.2  # shorter calls notice that the candidate before them emptied the caches

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Speed:
    """How one candidate did against the first."""

    name: str
    ratio: float
    """median over rounds of its time divided by the first candidate's"""
    quartiles: tuple[float, float]
    cpu_ratio: float
    """the same with the processor time of this process instead of the clock"""
    images_per_second: float
    """median; of this moment and this machine only"""
    batch_size: int

    def to_json(self) -> dict[str, object]:
        return asdict(self)


class Turn(NamedTuple):
    """One measurement of one candidate, in seconds for a batch."""

    wall: float
    cpu: float


@torch.inference_mode()
def take_turns(candidates: Mapping[str, nn.Module], images: Tensor, rounds: int) -> dict[str, list[Turn]]:
    """Time the candidates in turn on the same batch, after a warm-up; one measurement in each round."""
    return turns_of(
        {name: partial(model, images) for name, model in candidates.items()}, rounds, images.device
    )


def turns_of(
    calls: Mapping[Key, Callable[[], object]], rounds: int, device: torch.device
) -> dict[Key, list[Turn]]:
    """Time calls in turn, after a warm-up; one measurement in each round."""
    if rounds < 3:
        raise ValueError(f"rounds must be at least 3 for a median and quartiles, got {rounds}")
    turns: dict[Key, list[Turn]] = {key: [] for key in calls}
    for found in islice(going_round(calls, device), rounds):
        for key, turn in found.items():
            turns[key].append(turn)
    return turns


def going_round(calls: Mapping[Key, Callable[[], object]], device: torch.device) -> Iterator[dict[Key, Turn]]:
    """One round after the other, without end, after a warm-up.

    Where calls are short, every measurement begins with one that is not timed: what the candidate before it
    left in the caches says nothing about this one.
    """
    once = {key: _warmed_up(call, device) for key, call in calls.items()}
    repeats = {key: max(1, round(LEAST_SECONDS / seconds)) for key, seconds in once.items()}
    cold = min(once.values()) < COLD_SECONDS
    while True:
        found: dict[Key, Turn] = {}
        for key, call in calls.items():
            if cold:
                call()
            found[key] = _measure(call, device, repeats[key])
        yield found


def relative(name: str, turns: Sequence[Turn], first: Sequence[Turn], images: int) -> Speed:
    """How one candidate did against the turns of another in the same rounds, on batches of `images`."""
    ratios = [ours.wall / theirs.wall for ours, theirs in zip(turns, first, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    cpu = statistics.median(ours.cpu / theirs.cpu for ours, theirs in zip(turns, first, strict=True))
    rate = images / statistics.median(turn.wall for turn in turns)
    return Speed(name, statistics.median(ratios), (low, high), cpu, rate, images)


def compare(candidates: Mapping[str, nn.Module], images: Tensor, rounds: int = 9) -> list[Speed]:
    """Time the candidates in turn on the same batch; the first one is what the others are compared with."""
    turns = take_turns(candidates, images, rounds)
    first = next(iter(turns.values()))
    return [relative(name, turns[name], first, len(images)) for name in turns]


def bench(
    model: StagedViT, batch_size: int = 8, rounds: int = 9, device: str | None = None
) -> tuple[Speed, ...]:
    """The plain backbone against the composed model, and against the composed model with everything folded
    that folds.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    place = pick_device(device)
    folded = merge(model).to(place).eval()
    candidates: dict[str, nn.Module] = {"plain backbone": folded.alone().eval()}
    composed = model.to(place).eval()
    candidates["as trained"] = composed
    if len(folded.methods) < len(model.methods):
        candidates["folded"] = folded
    images = torch.randn(batch_size, *model.input_shape(), generator=torch.Generator().manual_seed(0))
    return tuple(compare(candidates, images.to(place), rounds))


def _measure(call: Callable[[], object], device: torch.device, repeats: int) -> Turn:
    _wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    _wait(device)
    return Turn((time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats)


def _warmed_up(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, once two have been made."""
    _measure(call, device, 2)
    return _measure(call, device, 1).wall


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
