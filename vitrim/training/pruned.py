"""`vitrim prune`: a finished run with fewer blocks, as a run folder that training can start from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrim.data import open_data
from vitrim.data.transforms import eval_transform
from vitrim.files.saving import needs_its_backbone, save
from vitrim.measuring.devices import start_accelerator
from vitrim.measuring.machine import machine
from vitrim.measuring.pruning import ALPHAS, check_rule, first_blocks, kept_blocks, layer_scores
from vitrim.runs.batches import ordered_batches, readers_end_with_errors
from vitrim.runs.evaluate import measure
from vitrim.runs.folder import RunFolder, stored_plan
from vitrim.runs.opening import open_model
from vitrim.training.record import cost_record, now, result_record


@dataclass(frozen=True)
class PrunedRun:
    """What pruning came to."""

    folder: Path | None
    """of the pruned run; None where every block is needed"""
    scores: tuple[float, ...]
    kept: int
    results: dict[str, Any] | None
    """of the pruned model before any further training"""


@readers_end_with_errors()
def prune_run(
    run: str | Path,
    out: str | Path,
    *,
    rule: str = "silhouette",
    alpha: float | None = None,
    root: str | Path | None = None,
    cpu: bool = False,
    tell: Callable[[int, float], None] = lambda block, score: None,
) -> PrunedRun:
    """Score the blocks of a run's model on its training images, leave out those that are not needed, and
    write what is left to `out`.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: in a sentence, what is wrong.
    """
    check_rule(rule, alpha)
    plan, record, model = stored_plan(run), RunFolder.open(run).record_to_show(), open_model(run)
    if model.task != "classify":
        raise ValueError(f"{run} is a {model.task} task, but blocks are compared by how they part classes")
    if Path(out).is_file() or (Path(out).is_dir() and any(Path(out).iterdir())):
        what = "a file" if Path(out).is_file() else "not empty"
        raise FileExistsError(f"{out} is {what}; choose another out")
    source = open_data(plan.data, root=plan.root if root is None else root)
    size, workers = plan.training.batch_size, plan.training.workers
    accelerator = start_accelerator("no", cpu=cpu)
    model.to(accelerator.device)
    images = source.split(plan.training.train_split).with_transform(eval_transform(model.preprocess))
    scores = layer_scores(model, ordered_batches(images, size, workers), rule)
    for block, score in enumerate(scores):
        tell(block, score)
    share = ALPHAS[rule] if alpha is None else alpha
    kept = kept_blocks(scores, share)
    if kept == len(scores):
        return PrunedRun(None, scores, kept, None)
    pruned = first_blocks(model, kept)
    split = record["results"]["split"]
    tested = source.split(split).with_transform(eval_transform(pruned.preprocess))
    metrics = measure(pruned, accelerator.prepare(ordered_batches(tested, size, workers)), accelerator)
    results = result_record(split, record["results"]["epoch"], record["results"]["select"], metrics)
    folder = RunFolder.create(out)
    save(pruned, folder.model_file, include_backbone=needs_its_backbone(pruned))
    methods = [repr(method) for method in pruned.methods]
    about = {"run": str(Path(run).resolve()), "rule": rule, "alpha": share, "scores": list(scores)}
    stays = {name: value for name, value in record.items() if name not in ("chosen_methods", "init")}
    folder.write_record(
        {
            **stays,
            "settings": {**record["settings"], "recipe": None, "methods": methods},
            "costs": cost_record(pruned),
            "results": results,
            "finished": now(),
            "machine": machine(),
            "model_bytes": folder.model_file.stat().st_size,
            "pruned": about,
        }
    )
    return PrunedRun(folder.path, scores, kept, results)
