"""One row per run, in a table on disk: table.csv, and table.parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vitrim.data.vtab_tasks import NAMES
from vitrim.runs.folder import RunFolder
from vitrim.settings.deviations import in_words
from vitrim.sweep.grid import Job
from vitrim.sweep.work import failure, record_of, state
from vitrim.writing import write_whole

Row = dict[str, Any]
COLUMNS = (
    "recipe", "task", "group", "seed", "status", "accuracy", "split", "val_accuracy", "select", "epoch",
    "gmacs", "gmacs_paper", "trained", "trained_head", "file_bytes", "seconds", "methods", "model",
    "image_size", "protocol", "deviations", "failure", "folder",
)  # fmt: skip


def row_of_job(job: Job, status: str | None = None) -> Row:
    """A run of a sweep, wherever it stands; `status` is what its files do not know, such as running."""
    record = record_of(job)
    row = row_of_record(record, job.folder) if record else dict.fromkeys(COLUMNS)
    status = status or state(job)
    return row | {
        "recipe": job.name,
        "task": job.data,
        "group": group_of(job.data),
        "seed": job.seed,
        "status": status,
        "failure": failure(job) if status == "failed" else None,
        "folder": str(job.folder),
    }


def row_of_record(record: Mapping[str, Any], folder: Path) -> Row:
    """A run folder's record as a row; what an unfinished run does not know yet is None."""
    from vitrim.runs.records import NEEDED_ROW

    run = RunFolder(folder)
    run.with_all(record, NEEDED_ROW)
    settings, costs = record["settings"], record["costs"]
    training = settings["training"]
    protocol = record.get("protocol") or {}
    results = record.get("results") or {}
    history = run.history()
    kept = next((row for row in history if row["epoch"] == results.get("epoch")), {})
    size = record["preprocess"].get("image_size") or settings["image_size"]
    methods = record.get("chosen_methods") or settings["methods"]
    return {
        "recipe": settings["recipe"] or ", ".join(settings["methods"]) or "linear",
        "task": record["data"]["spec"],
        "group": group_of(record["data"]["spec"]),
        "seed": training["seed"],
        "status": record["status"],
        "accuracy": results.get("top1"),
        "split": results.get("split"),
        "val_accuracy": kept.get("val_top1"),
        "select": record.get("select") or training["select"],
        "epoch": results.get("epoch"),
        "gmacs": costs["gmacs"],
        "gmacs_paper": costs["gmacs_paper"],
        "trained": costs["trained_parameters"],
        "trained_head": costs.get("trained_head"),
        "file_bytes": record.get("model_bytes"),
        "seconds": round(sum(row["seconds"] for row in history), 3),
        "methods": ", ".join(methods),
        "model": settings["model"],
        "image_size": None if size is None else "x".join(map(str, size)),
        "protocol": protocol.get("name"),
        "deviations": in_words(protocol.get("deviations", ())) or None,
        "failure": None,
        "folder": str(folder),
    }


def group_of(data: str) -> str:
    """natural, specialized or structured for VTAB's tasks; nothing for other data."""
    kind, _, rest = data.partition(":")
    task = NAMES.get(rest.partition("?")[0].lower().replace("-", "_")) if kind == "vtab" else None
    return task.group if task else ""


def write_rows(rows: Sequence[Row], out: Path) -> None:
    """Put the table in place, whole."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(out / "table.csv", text.getvalue().encode())
    if find_spec("pyarrow") is not None:
        write_whole(out / "table.parquet", parquet(rows))


def parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow as arrow
    from pyarrow.parquet import write_table

    kinds = {
        **dict.fromkeys(COLUMNS, arrow.string()),
        **dict.fromkeys(("seed", "epoch", "trained", "trained_head", "file_bytes"), arrow.int64()),
        **dict.fromkeys(("accuracy", "val_accuracy", "gmacs", "gmacs_paper", "seconds"), arrow.float64()),
    }
    buffer = io.BytesIO()
    write_table(arrow.Table.from_pylist(list(rows), arrow.schema(kinds.items())), buffer)
    return buffer.getvalue()
