"""What every replica is sent: which adapters there are and where, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vitrim.deploy.pool import AdapterDescription, AdapterPool
from vitrim.deploy.serving.on_ray.settings import RaySettings
from vitrim.deploy.serving.settings import Serving
from vitrim.network.target_scale import TargetScale


@dataclass(frozen=True)
class Outline:
    """What must be known of a model to read its outputs (`Answering`), without the model."""

    classes: tuple[str, ...] | None
    num_classes: int
    task: str
    scale: TargetScale | None


@dataclass(frozen=True)
class Plan:
    """One deployment.

    Attributes:
        backbone: the run whose backbone all adapters are on.
        adapters: by name, what is known of them; `source` is their file, at the same path on every node.
        outlines: by name, how their outputs are read.
        device: "cpu" or "cuda", of the computing replicas.
        plugins: files and modules with methods that have to be registered first.
    """

    backbone: Path
    adapters: Mapping[str, AdapterDescription]
    outlines: Mapping[str, Outline]
    serving: Serving
    settings: RaySettings
    device: str = "cpu"
    plugins: tuple[str, ...] = ()


def make_plan(
    runs: Mapping[str, Path],
    serving: Serving,
    settings: RaySettings,
    device: str = "cpu",
    plugins: tuple[str, ...] = (),
) -> Plan:
    """Read every adapter here once, so that what does not fit is refused before anything is deployed."""
    if serving.adapters_root is not None:
        raise ValueError(
            "--adapters_root is for one server: what is loaded into one replica is missing in the others; "
            "on Ray, deploy again with other runs"
        )
    backbone = next(iter(runs.values())).absolute()
    pool = AdapterPool(backbone)
    for name, path in runs.items():
        pool.add(name, path.absolute())
    models = {name: pool.model(name) for name in pool.names()}
    return Plan(
        backbone=backbone,
        adapters={name: pool.describe(name) for name in models},
        outlines={
            name: Outline(model.classes, model.num_classes, model.task, model.scale)
            for name, model in models.items()
        },
        serving=serving,
        settings=settings,
        device=device,
        plugins=plugins,
    )


class Catalogue:
    """What a front knows of the adapters: the reading half of an `AdapterPool`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def names(self) -> list[str]:
        return list(self._plan.adapters)

    def describe(self, name: str) -> AdapterDescription:
        return self._plan.adapters[name]

    def model(self, name: str) -> Outline:
        return self._plan.outlines[name]
