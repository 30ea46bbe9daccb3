"""`measure_speed`: a composition beside its plain backbone, in every way, one process, turn by turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from vitrim.checks import check_one_of, check_positive
from vitrim.compose import merge
from vitrim.measuring.bench import turns_of
from vitrim.measuring.costs import executed_macs
from vitrim.measuring.devices import pick_device
from vitrim.measuring.machine import machine, package_versions, versions
from vitrim.measuring.memory import peak_memory
from vitrim.network.model import StagedViT
from vitrim.speed.plain import plain_macs
from vitrim.speed.rows import AGAIN, PLAIN, Candidate, Measured, Row, rows_of
from vitrim.speed.ways import USUAL, WAYS, Runs, anew, plain_backbone, prepared, why_not
from vitrim.training.step import composed_step, plain_step

FIGURES = ("latency", "throughput", "step")
WORTH = 0.97  # of the time for an image: what a larger batch must come below to be the best

Found = dict[Candidate, Runs]


def measure_speed(
    model: StagedViT,
    *,
    ways: Sequence[str] | None = None,
    figures: Sequence[str] = FIGURES,
    batch_sizes: Sequence[int] = (),
    largest_batch: int = 64,
    step_batch: int = 16,
    rounds: int = 9,
    device: str | None = None,
    say: Callable[[str], object] = str,
) -> Measured:
    """Latency at batch 1, throughput at the best batch, one training step, each with its peak memory.

    Args:
        ways: of `WAYS`, such as ("eager", "onnx"); None for all but the last that this machine and
            composition can, with a sentence in `left_out` for each of the others.
        figures: which of "latency", "throughput" and "step".
        batch_sizes: measure at these instead of batch 1 and the best.
        largest_batch: the largest that is tried for throughput.
        step_batch: images of a training step.
        rounds: turns that each candidate takes.
        say: is told what is being done.

    Raises:
        ValueError: for a way that was named and cannot be measured.
    """
    for figure in figures:
        check_one_of("bench", "figures", figure, FIGURES)
    for name, value in (("largest_batch", largest_batch), ("step_batch", step_batch), ("rounds", rounds)):
        check_positive("bench", name, value)
    for batch in batch_sizes:
        check_positive("bench", "batch_size", batch)
    if rounds < 3:
        raise ValueError(f"rounds must be at least 3 for a median and quartiles, got {rounds}")
    for way in ways or ():
        check_one_of("bench", "way", way, tuple(WAYS))
    place = pick_device(device)
    folded = merge(model).to(place).eval()
    asked = _Asked(ways, figures, batch_sizes, largest_batch, step_batch, rounds, place, say)
    left_out: list[str] = []
    rows: list[Row] = []
    with TemporaryDirectory(prefix="vitrim-bench-") as folder:
        found = _candidates(model.to(place).eval(), folded, asked, Path(folder), left_out)
        macs = _macs(model, folded)
        with torch.inference_mode():
            rows += _inference(found, macs, folded, asked)
    if "step" in figures and not batch_sizes:
        rows += _training(model, folded, asked, left_out)
    return Measured(tuple(rows), tuple(left_out), _record(model, asked))


class _Asked:
    """The arguments of `measure_speed`, checked."""

    def __init__(
        self,
        ways: Sequence[str] | None,
        figures: Sequence[str],
        batch_sizes: Sequence[int],
        largest: int,
        step_batch: int,
        rounds: int,
        device: torch.device,
        say: Callable[[str], object],
    ) -> None:
        self.ways, self.figures, self.batch_sizes = ways, figures, batch_sizes
        self.largest, self.step_batch, self.rounds = largest, step_batch, rounds
        self.device, self.say = device, say


def _candidates(
    model: StagedViT, folded: StagedViT, asked: _Asked, folder: Path, left_out: list[str]
) -> Found:
    """Everything that takes turns, ready to run."""
    found: Found = {}
    for way in asked.ways or USUAL:
        reason = why_not(way, asked.device)
        if reason is None:
            asked.say(f"preparing: {WAYS[way].words}")
            try:
                found |= _in_one_way(way, model, folded, folder, asked)
            except ValueError as error:
                reason = f"{way} is left out: {error}"
        if reason is not None and asked.ways is not None:
            raise ValueError(reason.replace(" is left out:", " cannot be measured:"))
        left_out += [] if reason is None else [reason]
    return found


def _in_one_way(way: str, model: StagedViT, folded: StagedViT, folder: Path, asked: _Asked) -> Found:
    folds, ours = len(folded.methods) < len(model.methods), {}
    if way == "eager" or not folds:
        ours["as trained"] = prepared(way, model, folder, "composed", asked.device, any_batch=True)
    if folds:
        ours["folded"] = prepared(way, folded, folder, "composed", asked.device, any_batch=True)
    plain = prepared(way, plain_backbone(folded), folder, "plain", asked.device, any_batch=True)
    found = {Candidate(way, name): run for name, run in {PLAIN: plain, AGAIN: plain, **ours}.items()}
    example = _images(folded, next(iter(asked.batch_sizes), 1), asked.device)
    with torch.inference_mode():
        for run in found.values():
            run(example)  # refusals and compilers speak now
    return found


def _macs(model: StagedViT, folded: StagedViT) -> dict[str, float]:
    """Multiply-accumulates by name, plain = 1."""
    whole = plain_macs(folded)
    shares = {"as trained": executed_macs(model)[0] / whole, "folded": executed_macs(folded)[0] / whole}
    return {PLAIN: 1.0, AGAIN: 1.0, **shares}


def _inference(found: Found, macs: Mapping[str, float], folded: StagedViT, asked: _Asked) -> list[Row]:
    rows: list[Row] = []
    for figure, batches in _questions(found, folded, asked):
        images = {size: _images(folded, size, asked.device) for size in set(batches.values())}
        calls = {who: partial(found[who], images[size]) for who, size in batches.items()}
        asked.say(f"measuring: {figure}, {len(calls)} candidates in turn, {asked.rounds} rounds")
        turns = turns_of(calls, asked.rounds, asked.device)
        memory = {
            who: peak_memory(partial(anew(found[who]), images[size]), asked.device)
            for who, size in batches.items()
        }
        rows += rows_of(figure, turns, batches, macs, memory)
    return rows


def _questions(found: Found, folded: StagedViT, asked: _Asked) -> list[tuple[str, Mapping[Candidate, int]]]:
    """What is measured, and every candidate's batch size for it."""
    if asked.batch_sizes:
        return [("batch", dict.fromkeys(found, batch)) for batch in asked.batch_sizes]
    asking: list[tuple[str, Mapping[Candidate, int]]] = []
    if "latency" in asked.figures:
        asking.append(("latency", dict.fromkeys(found, 1)))
    if "throughput" in asked.figures:
        asked.say(f"looking for the best batch, up to {asked.largest}")
        best = {who: best_batch(run, folded, asked.largest, asked.device) for who, run in found.items()}
        best |= {who: best[Candidate(who.way, PLAIN)] for who in found if who.name == AGAIN}
        asking.append(("throughput", best))
    return asking


def best_batch(run: Runs, model: StagedViT, largest: int, device: torch.device) -> int:
    """The batch with the least time for an image, doubling until two in a row bring nothing."""
    best, least, idle, batch = 1, float("inf"), 0, 1
    while batch <= largest and idle < 2:
        images = _images(model, batch, device)
        run(images)
        seconds = min(_seconds(run, images) for _ in range(3)) / batch
        if seconds < WORTH * least:
            best, least, idle = batch, seconds, 0
        else:
            idle += 1
        batch *= 2
    return best


def _seconds(run: Runs, images: Tensor) -> float:
    """Of one call, its device waited for; processor time where one thread does the work."""
    alone = images.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    started = clock()
    run(images)
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return clock() - started


def _training(model: StagedViT, folded: StagedViT, asked: _Asked, left_out: list[str]) -> list[Row]:
    if model.num_classes == 0:
        left_out.append("the training step is left out: this model has no classifier, so no loss")
        return []
    asked.say(f"measuring: training steps of {asked.step_batch} images")
    batch, device = asked.step_batch, asked.device
    makers: dict[str, Callable[[], Callable[[], None]]] = {
        PLAIN: partial(plain_step, folded, batch, device),
        "as trained": partial(composed_step, model, batch, device),
    }
    memory: dict[Candidate, float | None] = {}
    calls: dict[Candidate, Callable[[], None]] = {}
    for name, make in makers.items():
        who = Candidate("eager", name)
        calls[who] = make()
        memory[who] = peak_memory(partial(_twice, calls[who]), device)  # gradients and AdamW's state included
    calls[Candidate("eager", AGAIN)] = calls[Candidate("eager", PLAIN)]
    turns = turns_of(calls, asked.rounds, device)
    return rows_of("training step", turns, dict.fromkeys(calls, batch), {}, memory)


def _twice(step: Callable[[], None]) -> None:
    step()
    step()


def _images(model: StagedViT, batch: int, device: torch.device) -> Tensor:
    return torch.randn((batch, *model.input_shape()), generator=torch.Generator().manual_seed(0)).to(device)


def _record(model: StagedViT, asked: _Asked) -> dict[str, Any]:
    """What the figures were measured with."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "backbone": model.origin.name,
        "methods": [repr(method) for method in model.methods],
        "image_size": list(model.preprocess.image_size),
        "device": str(asked.device),
        "threads": torch.get_num_threads(),
        "precision": {name: way.precision for name, way in WAYS.items()},
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "rounds": asked.rounds,
        "machine": machine(),
        "versions": {**versions(), **package_versions("onnx", "onnxscript", "onnxruntime")},
    }
