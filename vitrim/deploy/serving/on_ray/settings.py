"""What a deployment on Ray is told, checked before Ray starts: the part `ray` of a file for `--config`.

ray:
  address: null           # of a cluster that runs already; null: one on this machine, while the command runs
  max_adapters: 16        # in the memory of one computing replica; the least used one leaves
  front: {replicas: 1, cpus: 1.0}
  computing: {cpus: 1.0, gpus: 0.0, min_replicas: 1, max_replicas: 1, target_requests: 32.0,
              upscale_delay: 30.0, downscale_delay: 600.0}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitrim.checks import did_you_mean
from vitrim.reading import short

Replicas = Annotated[int, Field(ge=1, le=10_000)]
Share = Annotated[float, Field(ge=0, le=1024, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class Exact(BaseModel):
    """Keys that are not known are refused: a misspelt one would be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Front(Exact):
    """The replicas that take requests in, decode pictures and write answers.

    Attributes:
        replicas: how many.
        cpus: that Ray reserves for each.
    """

    replicas: Replicas = 1
    cpus: Share = 1.0


class Computing(Exact):
    """The replicas that hold the backbone and compute.

    Attributes:
        cpus, gpus: that Ray reserves for each; parts of one are shared.
        min_replicas, max_replicas: how many there are at least and at most.
        target_requests: pictures on their way for each replica, above which there are to be more replicas.
        upscale_delay, downscale_delay: seconds that this has to last until replicas come or go.
    """

    cpus: Share = 1.0
    gpus: Share = 0.0
    min_replicas: Replicas = 1
    max_replicas: Replicas = 1
    target_requests: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 32.0
    upscale_delay: Seconds = 30.0
    downscale_delay: Seconds = 600.0


class RaySettings(Exact):
    """All of it.

    Attributes:
        address: of a running cluster, such as "auto" or "ray://HOST:10001"; None starts one here.
        max_adapters: in the memory of one computing replica; the least recently used one leaves.
    """

    address: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    max_adapters: Annotated[int, Field(ge=1, le=100_000)] = 16
    front: Front = Front()
    computing: Computing = Computing()


def ray_settings(given: Mapping[str, Any] | None, device: str = "cpu") -> RaySettings:
    """The settings with what was given, or one sentence."""
    try:
        found = RaySettings.model_validate(dict(given or {}), strict=True)
    except ValidationError as error:
        raise ValueError(_sentence(error)) from None
    computing = found.computing
    if computing.max_replicas < computing.min_replicas:
        raise ValueError(
            f"ray.computing: max_replicas is {computing.max_replicas}, below min_replicas "
            f"({computing.min_replicas}); raise it, or lower min_replicas"
        )
    if device.startswith("cuda") != (computing.gpus > 0):
        raise ValueError(
            f"ray.computing.gpus is {computing.gpus:g} and --device is {device}; give gpus above 0 (a part "
            "of one is enough) together with --device cuda, or neither"
        )
    return found


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong: where, what was given, what is allowed."""
    first = error.errors(include_url=False)[0]
    *parents, last = (str(part) for part in first["loc"]) if first["loc"] else ("",)
    where = ".".join(("ray", *parents))
    if first["type"] == "extra_forbidden":
        parts = {"front": list(Front.model_fields), "computing": list(Computing.model_fields)}
        known = parts.get(parents[-1] if parents else "", list(RaySettings.model_fields))
        return f"{where} has no setting {short(last)}; {did_you_mean(last, known)}"
    wanted = first["msg"].removeprefix("Input ")
    return f"{'.'.join((where, last)).rstrip('.')} is {short(first['input'])}, but it {wanted}"
