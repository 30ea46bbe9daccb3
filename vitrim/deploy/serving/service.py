"""What happens to a picture: accepted, decoded, computed in a batch, answered.

What decides over accepting changes on the event loop only; decoding and computing happen in threads of their
own, which report how long they took. An adapter that is taken out answers what it accepted first, so no
request ever sees half a change.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from vitrim.checks import did_you_mean
from vitrim.data.transforms import ImageTransform, eval_transform
from vitrim.deploy.pool import AdapterDescription, AdapterPool
from vitrim.deploy.serving.batching import Batcher
from vitrim.deploy.serving.decoding import Decoder, Picture
from vitrim.deploy.serving.metrics import Metrics
from vitrim.deploy.serving.refusal import Refusal, try_again
from vitrim.deploy.serving.settings import Serving
from vitrim.network.model import StagedViT
from vitrim.runs.predict import Prediction, guesses

LONGEST_NAME = 100
Result = TypeVar("Result")


@dataclass
class Adapter:
    """An adapter that answers, and how many pictures it has to answer now."""

    name: str
    about: AdapterDescription
    model: StagedViT
    """of the pool; only names, task and scale are read here, and only the batcher computes"""
    transform: ImageTransform
    busy: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class Service:
    """The adapters, the decoding threads and the computing thread, behind what the routes call."""

    def __init__(self, pool: AdapterPool, serving: Serving) -> None:
        self.pool, self.serving = pool, serving
        self.metrics = Metrics()
        self.decoder = Decoder(serving.most_pixels, serving.decoders)
        self.batcher = self.make_batcher()
        self.adapters: dict[str, Adapter] = {}
        self.changing = asyncio.Lock()
        self.changes: set[asyncio.Future[Any]] = set()
        self.in_flight = 0
        self.decoding = 0
        self.seconds_each = 0.0  # a picture's share of its batch, averaged over the latest ones
        self.closing = False
        self.metrics.show("pictures_in_flight", "Pictures accepted, not answered", lambda: self.in_flight)
        self.metrics.show("adapters", "Adapters in memory", lambda: len(self.adapters))
        for name in pool.names():
            self._know(name)

    def make_batcher(self) -> Batcher:
        """Where pictures go that wait to be computed."""
        wait = self.serving.max_wait / 1000
        compute = self.pool.logits_grouped
        return Batcher(compute, self.serving.max_batch, wait, lambda: self.decoding, self._batched)

    async def predict(
        self, name: str | None, pictures: Sequence[Picture], top: int = 1
    ) -> tuple[Adapter, list[list[Prediction]]]:
        """The `top` best guesses for each picture, as `vitrim predict` gives them."""
        with self.holding(name, len(pictures)) as adapter:
            most = adapter.about.outputs
            if not 1 <= top <= most:
                raise Refusal(400, f"top must be between 1 and the number of classes ({most}), got {top}")
            rows = await self.logits(adapter, pictures)
            called = [picture for picture, _ in pictures]
            return adapter, guesses(adapter.model, rows, called, top)

    async def logits(self, adapter: Adapter, pictures: Sequence[Picture]) -> Tensor:
        """Logits [B, classes] of pictures that are held."""
        return await self._every([self._decoded(adapter, picture) for picture in pictures], adapter)

    async def logits_of(self, adapter: Adapter, images: Tensor) -> Tensor:
        """Logits [B, classes] of normalised images [B, C, height, width] that are held."""
        return await self._every([self._computed(adapter, pixels) for pixels in images], adapter)

    @contextmanager
    def holding(self, name: str | None, count: int) -> Iterator[Adapter]:
        """Accept so many pictures for an adapter, or refuse them; they are let go at the end."""
        if self.closing:
            raise Refusal(503, "the server is shutting down", {"retry-after": "10"})
        adapter = self.find(name)
        if count > self.serving.queue:
            raise Refusal(
                413, f"{count} pictures in one request; this server takes at most {self.serving.queue}"
            )
        if self.in_flight + count > self.serving.queue:
            seconds = max(1, math.ceil(self.in_flight * self.seconds_each))
            raise try_again(
                f"{self.in_flight} pictures wait already, of at most {self.serving.queue}", seconds
            )
        self.in_flight += count
        adapter.busy += count
        try:
            yield adapter
        finally:
            self.in_flight -= count
            adapter.busy -= count
            if not adapter.busy:
                adapter.idle.set()

    def find(self, name: str | None) -> Adapter:
        """An adapter by its name; where there is only one, it need not be named."""
        if name is None and len(self.adapters) == 1:
            return next(iter(self.adapters.values()))
        if not self.adapters:
            raise Refusal(404, "no adapter is loaded")
        if name is None:
            raise Refusal(400, f"say which adapter, as ?adapter=NAME; there are {', '.join(self.adapters)}")
        if name not in self.adapters:
            raise Refusal(404, f"no adapter {name[:LONGEST_NAME]!r}; {did_you_mean(name, self.adapters)}")
        return self.adapters[name]

    async def add(self, name: str, source: Path) -> Adapter:
        """Load an adapter beside the others, which go on answering. Once begun it is done, whoever waits."""
        check_name(name)
        return await self._to_its_end(self._add(name, source))

    async def remove(self, name: str) -> None:
        """Accept nothing more for an adapter, let it answer what it has accepted, and forget it."""
        await self._to_its_end(self._remove(name))

    async def _add(self, name: str, source: Path) -> Adapter:
        async with self.changing:
            if name in self.adapters:
                raise Refusal(
                    409, f"there is an adapter {name!r} already; take it out first, or choose another name"
                )
            await asyncio.to_thread(self.pool.add, name, source)
            return self._know(name)

    async def _remove(self, name: str) -> None:
        async with self.changing:
            adapter = self.find(name)
            del self.adapters[name]
            adapter.idle.clear()
            if adapter.busy:
                await adapter.idle.wait()
            await asyncio.to_thread(self.pool.remove, name)
            self.metrics.unloaded(name)

    async def _to_its_end(self, work: Coroutine[Any, Any, Result]) -> Result:
        task = asyncio.ensure_future(work)
        self.changes.add(task)
        task.add_done_callback(self.changes.discard)
        return await asyncio.shield(task)

    def close(self) -> None:
        """Compute what was accepted, then end the threads."""
        self.closing = True
        self.batcher.close()
        self.decoder.close()

    def _know(self, name: str) -> Adapter:
        about = self.pool.describe(name)
        self.adapters[name] = Adapter(name, about, self.pool.model(name), eval_transform(about.preprocessing))
        self.metrics.loaded(name, about.bytes)
        self.metrics.pictures.labels(name)
        return self.adapters[name]

    async def _every(self, coming: Sequence[Awaitable[Tensor]], adapter: Adapter) -> Tensor:
        outcomes = await asyncio.gather(*coming, return_exceptions=True)
        for outcome in outcomes:  # the first picture that is wrong, not the first found to be
            if isinstance(outcome, BaseException):
                raise outcome
        rows = torch.stack([outcome for outcome in outcomes if isinstance(outcome, Tensor)])  # [B, classes]
        if not rows.isfinite().all():
            raise Refusal(500, f"the adapter {adapter.name!r} gives outputs that are no numbers")
        self.metrics.pictures.labels(adapter.name).inc(len(rows))
        return rows

    async def _decoded(self, adapter: Adapter, picture: Picture) -> Tensor:
        self.decoding += 1
        try:
            pixels = await self.decoder.tensor(picture, adapter.transform)
        finally:
            self.decoding -= 1
        return await self._computed(adapter, pixels)

    async def _computed(self, adapter: Adapter, pixels: Tensor) -> Tensor:
        return await asyncio.wrap_future(self.batcher.submit(pixels, adapter.name))

    def _batched(self, pictures: int, seconds: float) -> None:
        self.metrics.batched(pictures, seconds)
        latest = seconds / pictures
        self.seconds_each = 0.9 * self.seconds_each + 0.1 * latest if self.seconds_each else latest


def check_name(name: str) -> None:
    """Refuse names that could not stand in an address or on one line."""
    short = name[:LONGEST_NAME]
    if not name or short != name or "/" in name or not name.isprintable() or name.strip() != name:
        raise ValueError(
            f"an adapter's name is one line of 1 to {LONGEST_NAME} characters without /, got {short!r}"
        )
