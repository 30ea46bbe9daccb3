"""Which of several ways to the same result is the fastest on this machine, by trying."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

Key = tuple[object, ...]
Result = TypeVar("Result")
TRIES = 2  # of each way, the faster one counts: the first may wait for what is loaded or allocated


def fastest(
    known: dict[Key, str], key: Key, ways: Mapping[str, Callable[[], Result]], device: torch.device
) -> Callable[[], Result]:
    """The fastest of the ways, measured once for each `key`; `known` is where that is noted."""
    if key not in known:
        with torch.no_grad():
            seconds = {name: min(seconds_of(way, device) for _ in range(TRIES)) for name, way in ways.items()}
        known[key] = min(seconds, key=lambda name: seconds[name])
    return ways[known[key]]


def seconds_of(way: Callable[[], object], device: torch.device) -> float:
    """How long it takes, from when nothing else is under way on the device until it is done there."""
    waits = device.type == "cuda"
    if waits:
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    way()
    if waits:
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
