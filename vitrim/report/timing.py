"""What the page measures itself, as it is written: operations alone would promise what a machine may not
keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitrim.measuring.bench import bench
from vitrim.measuring.devices import pick_device
from vitrim.measuring.machine import machine
from vitrim.measuring.memory import peak_memory
from vitrim.report.shown_run import ShownRun
from vitrim.report.summary import speed_of
from vitrim.runs.opening import open_model
from vitrim.training.step import composed_step

ROUNDS = 5
STEP_BATCH = 16  # images of the training step whose memory is taken


def timed(shown: Sequence[ShownRun]) -> list[ShownRun]:
    """The runs, the first one with its time on one image, measured now where none was kept."""
    first = shown[0]
    if speed_of(first.record) is not None or not first.record["settings"]["methods"]:
        return list(shown)
    return [_with_time(first, "cpu"), *shown[1:]]


def measured(shown: Sequence[ShownRun]) -> list[ShownRun]:
    """The runs, all with their time on one image and the memory of a training step, measured now by the same
    rules: what they kept was measured on several machines.
    """
    return [_with_memory(_with_time(run, None)) for run in shown]


def _with_time(run: ShownRun, device: str | None) -> ShownRun:
    speeds = bench(open_model(run.folder), batch_size=1, rounds=ROUNDS, device=device)
    found = {"speed": [speed.to_json() for speed in speeds], "speed_machine": machine()}
    return replace(run, record={**run.record, **found})


def _with_memory(run: ShownRun) -> ShownRun:
    model, device = open_model(run.folder), pick_device(None)
    step = composed_step(model, STEP_BATCH, device)

    def twice() -> None:  # gradients and the optimiser's state included
        step()
        step()

    return replace(run, record={**run.record, "step_memory_mib": peak_memory(twice, device)})
