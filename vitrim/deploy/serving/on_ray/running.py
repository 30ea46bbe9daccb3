"""Deploying: Ray started or joined, both deployments run, and all of it taken down again."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from vitrim.deploy.ray_start import start_ray
from vitrim.deploy.serving.on_ray.plan import Plan
from vitrim.deploy.serving.server import SPARE_SECONDS, address_of, listen

if TYPE_CHECKING:
    from ray.serve import Application

NAME = "vitrim"


def run_on_ray(plan: Plan, say: Callable[[str], object]) -> None:
    """Deploy; on a cluster of its own, answer until SIGTERM or Ctrl-C, then take it down. On a cluster that
    runs already the deployment stays, until `serve shutdown` of Ray's own command.

    `say` is told the address, once it answers.
    """
    with deployed(plan) as address:
        say(address)
        if plan.settings.address is None:
            _wait_for_the_end()


@contextmanager
def deployed(plan: Plan) -> Iterator[str]:
    """The deployment, at the address that is given; a cluster started for it ends with it."""
    import ray
    from ray import serve

    own = plan.settings.address is None
    host, port = plan.serving.host, plan.serving.port
    with listen(host, port) as free:  # refused in a sentence where it is taken, and 0 becomes a free one
        address, port = address_of(free), free.getsockname()[1]
    quiet = {"log_level": "WARNING", "enable_access_log": False}
    _join(plan)
    try:
        serve.start(
            proxy_location="HeadOnly" if own else "EveryNode",
            http_options={"host": host, "port": port, "request_timeout_s": plan.serving.timeout + 1},
            logging_config=quiet,
        )
        try:
            serve.run(make_deployment(plan), name=NAME, route_prefix="/", logging_config=quiet)
        except RuntimeError as error:
            raise ValueError(f"Ray could not start the deployment: {_why(serve, error)}") from error
        yield address
    finally:
        if own:
            with suppress(Exception):  # it is taken down with the cluster in any case
                serve.delete(NAME)  # once it has answered what it accepted
        ray.shutdown()


def make_deployment(plan: Plan) -> Application:
    """Both deployments, for `serve.run`."""
    from ray import serve

    from vitrim.deploy.serving.on_ray.computing import Computing
    from vitrim.deploy.serving.on_ray.front import COMPUTING, make_front

    front, computing = plan.settings.front, plan.settings.computing
    patience = plan.serving.timeout + SPARE_SECONDS
    deployment: Any = serve.deployment
    computed = deployment(Computing).options(
        name=COMPUTING,
        ray_actor_options={"num_cpus": computing.cpus, "num_gpus": computing.gpus},
        max_ongoing_requests=max(2 * plan.serving.max_batch, math.ceil(2 * computing.target_requests)),
        graceful_shutdown_timeout_s=patience,
        **_replicas(plan),
    )
    ingress = deployment(serve.ingress(_builder(partial(make_front, plan)))()).options(
        name="front",
        num_replicas=front.replicas,
        ray_actor_options={"num_cpus": front.cpus},
        max_ongoing_requests=2 * plan.serving.queue,  # it counts itself, and answers 429
        graceful_shutdown_timeout_s=patience,
    )
    return ingress.bind(computed.bind(plan))


def _builder(make: Callable[[], Any]) -> Callable[[], Any]:
    """A plain function, which Ray calls on the worker."""

    def build() -> Any:
        return make()

    return build


def _replicas(plan: Plan) -> dict[str, Any]:
    computing = plan.settings.computing
    if computing.min_replicas == computing.max_replicas:
        return {"num_replicas": computing.min_replicas}
    return {
        "autoscaling_config": {
            "min_replicas": computing.min_replicas,
            "max_replicas": computing.max_replicas,
            "target_ongoing_requests": computing.target_requests,
            "upscale_delay_s": computing.upscale_delay,
            "downscale_delay_s": computing.downscale_delay,
        }
    }


def _why(serve: Any, error: Exception) -> str:
    """The last line of what the replicas said, in one line."""
    found = serve.status().applications.get(NAME)
    said = [each.message for each in found.deployments.values() if each.message] if found else []
    lines = [line for line in "\n".join(said).splitlines() if line.strip()]
    return " ".join((lines[-1] if lines else str(error)).split())


def _join(plan: Plan) -> None:
    """A cluster of this machine as large as the deployment, or the one that runs."""
    if plan.settings.address is not None:
        try:
            start_ray({"address": plan.settings.address})
        except (ConnectionError, RuntimeError) as error:
            raise ValueError(
                f"no Ray cluster answers at {plan.settings.address!r} "
                f"({' '.join(str(error).split())[:200]}); start one, or leave ray.address out"
            ) from error
        return
    front, computing = plan.settings.front, plan.settings.computing
    cpus = math.ceil(front.replicas * front.cpus + computing.max_replicas * computing.cpus)
    start_ray({"address": "local", "num_cpus": max(1, cpus), "include_dashboard": False})


def _wait_for_the_end() -> None:
    ended = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
    while not ended.wait(1.0):  # a wait without end hides signals from some systems
        pass
