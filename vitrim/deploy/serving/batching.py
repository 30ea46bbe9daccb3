"""Pictures of many requests, and of many adapters, become batches that one thread computes.

A picture that waits is joined by those that come while the batch before it is computed, and by those that are
still being decoded, for at most `max_wait`. With nothing on its way it is computed at once: a client on its
own never waits for company.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

Compute = Callable[[Tensor, Sequence[str]], Sequence[Tensor]]
"""Images [B, C, height, width] and the adapter of each to the logits of each, [classes]."""
Watch = Callable[[int, float], None]
"""Told of every batch: how many pictures, and the seconds it took."""


@dataclass(frozen=True)
class Waiting:
    """A decoded picture, and where its logits are awaited."""

    pixels: Tensor
    """[C, height, width]"""
    adapter: str
    answer: Future[Tensor] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """The queue of decoded pictures and the one thread that computes them.

    Args:
        compute: what gives the logits.
        max_batch: pictures in one batch.
        max_wait: seconds that the first of a batch waits for more.
        coming: how many pictures are still being decoded.
        watch: told of every batch.
    """

    def __init__(
        self, compute: Compute, max_batch: int, max_wait: float, coming: Callable[[], int], watch: Watch
    ) -> None:
        self.compute, self.max_batch, self.max_wait = compute, max_batch, max_wait
        self.coming, self.watch = coming, watch
        self.waiting: deque[Waiting] = deque()
        self.changed = threading.Condition()
        self.closed = False
        self.thread: threading.Thread | None = None

    def submit(self, pixels: Tensor, adapter: str) -> Future[Tensor]:
        """The logits [classes] of one picture, to come; cancelling it takes the picture out of the queue."""
        picture = Waiting(pixels, adapter)
        with self.changed:
            if self.closed:
                raise RuntimeError("the batcher is closed")
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, name="vitrim-compute", daemon=True)
                self.thread.start()
            self.waiting.append(picture)
            self.changed.notify()
        return picture.answer

    def close(self) -> None:
        """Compute what was submitted, then end the thread."""
        with self.changed:
            self.closed = True
            self.changed.notify()
        if self.thread is not None:
            self.thread.join()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            alive = [picture for picture in batch if picture.answer.set_running_or_notify_cancel()]
            for group in _of_one_shape(alive):
                started = time.perf_counter()
                self._answer(group)
                self.watch(len(group), time.perf_counter() - started)

    def _next(self) -> list[Waiting] | None:
        """The next batch; None after the last one."""
        with self.changed:
            while not self.waiting:
                if self.closed:
                    return None
                self.changed.wait()
            until = self.waiting[0].since + self.max_wait
            while len(self.waiting) < self.max_batch and self.coming() and not self.closed:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self.changed.wait(left)
            return [self.waiting.popleft() for _ in range(min(self.max_batch, len(self.waiting)))]

    def _answer(self, group: Sequence[Waiting]) -> None:
        """Logits for pictures of one shape. Where one adapter fails, the others are computed without it."""
        adapters = [picture.adapter for picture in group]
        try:
            rows = self.compute(torch.stack([picture.pixels for picture in group]), adapters)
            for picture, logits in zip(group, rows, strict=True):
                picture.answer.set_result(logits)
        except Exception as error:
            names = dict.fromkeys(adapters)
            unanswered = [picture for picture in group if not picture.answer.done()]
            if len(names) == 1:
                for picture in unanswered:
                    picture.answer.set_exception(error)
            else:
                for name in names:
                    self._answer([picture for picture in unanswered if picture.adapter == name])


def _of_one_shape(pictures: Sequence[Waiting]) -> list[list[Waiting]]:
    """Adapters may take images of different sizes."""
    groups: dict[torch.Size, list[Waiting]] = {}
    for picture in pictures:
        groups.setdefault(picture.pixels.shape, []).append(picture)
    return list(groups.values())
