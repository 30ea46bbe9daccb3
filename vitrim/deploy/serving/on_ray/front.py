"""A replica that takes requests in: the application of one server, whose pictures are computed elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from vitrim.deploy.serving.application import make_application
from vitrim.deploy.serving.on_ray.plan import Catalogue, Plan
from vitrim.deploy.serving.refusal import Refusal
from vitrim.deploy.serving.service import Adapter, Service

if TYPE_CHECKING:
    from fastapi import FastAPI

    from vitrim.deploy.pool import AdapterPool
    from vitrim.deploy.serving.batching import Batcher

COMPUTING = "computing"
FIXED = "the adapters of a deployment on Ray are those it was started with; deploy it again with others"


def make_front(plan: Plan) -> FastAPI:
    """The application, made on a worker by Ray."""
    from ray import serve

    service = FrontService(plan, serve.get_deployment_handle(COMPUTING))
    return make_application(service.pool, plan.serving, service=service)


class FrontService(Service):
    """The service of one server, but that batches are computed by other replicas and adapters stay."""

    def __init__(self, plan: Plan, computing: Any) -> None:
        self.computing = computing
        super().__init__(cast("AdapterPool", Catalogue(plan)), plan.serving)

    def make_batcher(self) -> Batcher:
        return cast("Batcher", Elsewhere(self.computing, self._batched))

    async def add(self, name: str, source: Path) -> Adapter:
        raise Refusal(403, FIXED)

    async def remove(self, name: str) -> None:
        raise Refusal(403, FIXED)


class Elsewhere:
    """In place of the batcher: every picture goes to a computing replica, where it is batched."""

    def __init__(self, computing: Any, watch: Callable[[int, float], None]) -> None:
        self.computing, self.watch = computing, watch
        self.asking: set[asyncio.Task[None]] = set()

    def submit(self, pixels: Tensor, adapter: str) -> Future[Tensor]:
        """The logits [classes] of one picture, to come; called on the event loop."""
        answer: Future[Tensor] = Future()
        task = asyncio.ensure_future(self._ask(pixels, adapter, answer))
        self.asking.add(task)
        task.add_done_callback(self.asking.discard)
        answer.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
        return answer

    def close(self) -> None:
        """Nothing runs here; Ray lets replicas answer what they have before it ends them."""

    async def _ask(self, pixels: Tensor, adapter: str, answer: Future[Tensor]) -> None:
        started = time.perf_counter()
        try:
            logits = await self.computing.options(multiplexed_model_id=adapter).logits.remote(pixels)
        except Exception as error:
            if not answer.cancelled():
                answer.set_exception(_told(error))
            return
        if answer.set_running_or_notify_cancel():
            answer.set_result(logits)
            self.watch(1, time.perf_counter() - started)


def _told(error: Exception) -> Exception:
    """A replica that was lost comes back: the client may ask again. Other errors are the server's own."""
    from ray.exceptions import RayActorError

    if isinstance(error, RayActorError):
        return Refusal(503, "a computing replica was lost; try again", {"retry-after": "5"})
    return error
