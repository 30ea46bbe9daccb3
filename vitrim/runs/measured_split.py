"""On which images a model is measured when nobody says: test, or what a run without test images was
measured on.
"""

from __future__ import annotations

from pathlib import Path

from vitrim.data import DataSource, open_data, with_task
from vitrim.network.model import StagedViT
from vitrim.runs.folder import stored_plan
from vitrim.runs.opening import data_of_run
from vitrim.settings.epoch_choice import tested_split


def open_measured(
    model: StagedViT | str | Path,
    data: DataSource | str | None,
    split: str | None,
    root: str | Path | None = None,
    download: bool = False,
    task: str = "classify",
) -> tuple[DataSource, str]:
    """The data to measure on, a run's own if none are given, and the split of them."""
    run = None
    if data is None:
        if isinstance(model, StagedViT):
            raise ValueError("a model in memory has no data of its own; give data, for example data='digits'")
        run = model
        data, root = data_of_run(model, root)
    if isinstance(data, str) and task != "classify":
        data = with_task(data, task)  # a model knows what it was trained for
    source = data if isinstance(data, DataSource) else open_data(data, root=root, download=download)
    return source, usual_split(source, run) if split is None else split


def usual_split(source: DataSource, run: str | Path | None) -> str:
    """test; else the split that training measured the run on, which refuses images it was trained on."""
    if "test" in source.splits:
        return "test"
    if run is not None:
        return tested_split(source, stored_plan(run).training)
    return "val" if "val" in source.splits else "test"  # which the data will say they have not
