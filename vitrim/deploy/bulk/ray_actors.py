"""The parts of a bulk prediction on the machines of a Ray cluster: Ray Data hands them to a pool of actors,
each of which holds one model and does with a part what one machine does with all of them.

The list of images, the images and the parts lie on a disk that all machines share. Ray starts again what
dies; a part that is predicted twice is the same file.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy
import ray
import ray.data

from vitrim.deploy.bulk.asked import Pace
from vitrim.deploy.bulk.job import Job
from vitrim.deploy.bulk.opening import Opening, digest_of, folded
from vitrim.deploy.bulk.predictor import Predictor
from vitrim.deploy.ray_start import start_ray
from vitrim.measuring.devices import pick_device
from vitrim.methods.plugins import asked_by_environment, load_plugin

if TYPE_CHECKING:
    from vitrim.data.source import Reader
    from vitrim.deploy.bulk.watching import Watch

Columns = dict[str, numpy.ndarray]
EXPECTED = (ValueError, OSError, ImportError)


class PartActor:
    """One model, in a process of its own on some machine. What it refuses it says as a value: an error would
    arrive wrapped in Ray's."""

    def __init__(
        self, opening: Opening, job: Job, pace: Pace, read: Reader, plugins: tuple[str, ...]
    ) -> None:
        self.job, self.read = job, read
        self.node = ray.get_runtime_context().get_node_id()
        self.refusal = ""
        try:
            for plugin in plugins:
                load_plugin(plugin)
            self.predictor = _predictor(opening, job, pace)
        except EXPECTED as error:
            self.refusal = str(error)

    def __call__(self, batch: Columns) -> Columns:
        """Predict the part of this number and let it appear; how many images it had, and where."""
        (part,) = (int(part) for part in batch["part"])
        try:
            if not self.refusal:
                for _, _, table, broken in self.predictor.tables(self.job, self.read, [part]):
                    if table is not None:
                        self.job.write(part, table, broken)
        except EXPECTED as error:
            self.refusal = str(error)
        return {
            "images": numpy.array([self.job.size(part)]),
            "node": numpy.array([self.node]),
            "refusal": numpy.array([self.refusal]),
        }


def _predictor(opening: Opening, job: Job, pace: Pace) -> Predictor:
    model = opening.open()
    if digest_of(opening, model) != job.manifest["model"]:
        raise ValueError(
            f"{opening.called} is another model on {socket.gethostname()} than where the command was given; "
            "all machines have to see the same files"
        )
    top, embeddings = job.manifest["top"], job.manifest["embeddings"]
    return Predictor(folded(model), top, embeddings, pick_device(pace.device), pace)


def predict_on_ray(
    job: Job, opening: Opening, pace: Pace, read: Reader, parts: Sequence[int], watch: Watch
) -> tuple[str, ...]:
    """Predict the parts on the cluster that this process is connected to, or that RAY_ADDRESS names, or else
    on this machine alone; the machines that took part."""
    if not parts:
        return ()
    if not ray.is_initialized():
        start_ray({"logging_level": logging.ERROR})
    _keep_quiet()
    on_gpus = pace.device is None or pace.device.startswith("cuda")
    gpus = int(ray.cluster_resources().get("GPU", 0)) if on_gpus else 0
    cpus = max(1, pace.workers or 0)
    fitting = gpus or max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)
    count = min(len(parts), fitting if pace.actors is None else pace.actors)
    items = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
    done = items.map_batches(
        PartActor,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=count),
        num_cpus=cpus,
        num_gpus=1 if gpus else 0,
        fn_constructor_args=(
            opening,
            job,
            replace(pace, workers=pace.workers or 0, device=pace.device if gpus else pace.device or "cpu"),
            read,
            asked_by_environment(),
        ),
    )
    nodes: set[str] = set()
    for row in done.iter_rows():
        if row["refusal"]:
            raise ValueError(str(row["refusal"]))
        watch.add(int(row["images"]))
        nodes.add(str(row["node"]))
    return tuple(sorted(nodes))


def _keep_quiet() -> None:
    """Ray Data's own bars and plans would be drawn over ours."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
