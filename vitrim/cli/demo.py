"""The README's first command: what vitrim does, on bundled weights and bundled data, in a few minutes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vitrim.measuring.bench import bench
from vitrim.report import write_report
from vitrim.runs.folder import RunFolder, free_folder
from vitrim.training.loop import Run, train

TUNED, PROBE = "sparse-tuning", "linear"
# Far fewer epochs than the recipes' own, hence higher rates; for each of the two, what did best on the
# validation images.
SETTINGS: dict[str, dict[str, object]] = {
    TUNED: {"epochs": 7, "batch_size": 16, "lr": 1e-2, "label_smoothing": 0.1, "drop_path": 0.1},
    PROBE: {"epochs": 7, "batch_size": 16, "lr": 1e-2},
}


class Demo(NamedTuple):
    folder: Path
    tuned: Run
    probe: Run
    report: Path


def demo(out: str | Path | None = None, say: Callable[[str], object] = str, quiet: bool = False) -> Demo:
    """Train the recipe and a linear probe on the digits, measure speed, write both runs and a report.

    `say` is told what happens, in three lines; `quiet` keeps the training runs from printing.
    """
    folder = free_folder(Path("vitrim-demo")) if out is None else Path(out)
    say("1 of 3: sparse-tuning: trains a few parameters and fuses the patches that matter little\n")
    tuned = train(recipe=TUNED, training=SETTINGS[TUNED], out=folder / TUNED, quiet=quiet)
    say("\n2 of 3: linear probing, to compare with: the same backbone, only the classifier trains\n")
    probe = train(recipe=PROBE, training=SETTINGS[PROBE], out=folder / PROBE, quiet=quiet)
    say("\n3 of 3: measuring speed side by side with the plain backbone\n")
    record = {**tuned.record, "speed": [speed.to_json() for speed in bench(tuned.model, batch_size=32)]}
    RunFolder(tuned.folder).write_record(record)
    report = write_report([tuned.folder, probe.folder], folder / "report.html")
    return Demo(folder, tuned, probe, report)
