"""A replica that computes: one backbone in memory, and the adapters that its requests asked for.

Ray's multiplexing sends the pictures of an adapter to a replica that has it already, has a replica read one
that it lacks, and lets the least recently used one go where there are more than `max_adapters`. An adapter
leaves the memory when the last picture that needs it is done, not before.
"""

from __future__ import annotations

import asyncio
import itertools
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitrim.deploy.pool import AdapterPool
from vitrim.deploy.serving.on_ray.plan import Plan
from vitrim.methods.plugins import load_plugin


@dataclass(eq=False)
class Loaded:
    """An adapter in the pool, under a name that is never used again; in it for as long as this is held."""

    name: str


class Computing:
    """Made on a worker by Ray. `logits` is what fronts call, one picture at a time."""

    def __init__(self, plan: Plan) -> None:
        from ray import serve

        for plugin in plan.plugins:
            load_plugin(plugin)
        self.plan = plan
        self.pool = AdapterPool(plan.backbone, device=plan.device)
        self.numbers = itertools.count()

        @serve.multiplexed(max_num_models_per_replica=plan.settings.max_adapters)
        async def at_hand(name: str) -> Loaded:
            return await self._load(name)

        @serve.batch(max_batch_size=plan.serving.max_batch, batch_wait_timeout_s=plan.serving.max_wait / 1000)
        async def in_batches(pictures: list[tuple[Tensor, Loaded]]) -> list[Tensor]:
            return await self._compute(pictures)

        self._at_hand: Any = at_hand
        self._in_batches: Any = in_batches

    async def logits(self, pixels: Tensor) -> Tensor:
        """The logits [classes] of one picture [C, height, width], by the adapter the call is for."""
        from ray import serve

        loaded = await self._at_hand(serve.get_multiplexed_model_id())
        return await self._in_batches((pixels, loaded))

    async def in_memory(self) -> list[str]:
        """The adapters that are in the pool now."""
        return [name.rpartition("#")[0] for name in self.pool.names()]

    async def _load(self, name: str) -> Loaded:
        loaded = Loaded(f"{name}#{next(self.numbers)}")
        await asyncio.to_thread(self.pool.add, loaded.name, self.plan.adapters[name].source)
        weakref.finalize(loaded, self.pool.remove, loaded.name).atexit = False
        return loaded

    async def _compute(self, batch: list[tuple[Tensor, Loaded]]) -> list[Tensor]:
        """The logits of every picture of a batch; pictures of one size are computed together."""
        rows: dict[torch.Size, list[int]] = {}
        for row, (pixels, _) in enumerate(batch):
            rows.setdefault(pixels.shape, []).append(row)
        found: dict[int, Tensor] = {}
        for members in rows.values():
            images = torch.stack([batch[row][0] for row in members])
            names = [batch[row][1].name for row in members]
            logits = await asyncio.to_thread(self.pool.logits_grouped, images, names)
            found.update(zip(members, (each.cpu() for each in logits), strict=True))
        return [found[row] for row in range(len(batch))]
