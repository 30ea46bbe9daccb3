"""vitrim evaluate, of a run of segmentation."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.cli.segmenting import ABOUT, beside_unreduced
from vitrim.cli.used_options import refuse_unused

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from vitrim.dense.metrics import SegmentationMetrics

MEASURED = (
    "data", "root", "split", "image_size", "batch_size", "precision", "inference", "unreduced",
    "per_class", "json",
)  # fmt: skip


def evaluate_masks(chosen: Namespace) -> None:
    """vitrim evaluate, of a run of segmentation."""
    from vitrim.cli.verbs.shared import steps
    from vitrim.dense.evaluating import measure, unreduced
    from vitrim.dense.saving import load_dense
    from vitrim.measuring.devices import start_accelerator

    refuse_unused(chosen, MEASURED, ABOUT)
    per_class = _ending_csv(chosen.per_class)
    accelerator = start_accelerator(chosen.precision, cpu=chosen.cpu)
    model = load_dense(chosen.run, device=accelerator.device, image_size=chosen.image_size)
    split, name = _measured_split(chosen, model.table.names)
    whole = unreduced(model) if chosen.unreduced else None
    with steps("pictures") as done:
        found = measure(
            model, split, inference=chosen.inference, batch_size=chosen.batch_size, whole=whole,
            autocast=accelerator.autocast, done=done,
        )  # fmt: skip
    theirs = None
    if whole is not None:
        theirs = measure(whole, split, inference=chosen.inference, batch_size=chosen.batch_size)
    if per_class is not None:
        _write_parts(found, per_class)
    told = {"split": name, "task": "segment", **found.to_json()}
    if theirs is not None:
        told |= {"miou_unreduced": theirs.miou, "relative_miou": found.relative_to(theirs)}
    if chosen.json:
        sys.stdout.write(json.dumps({**told, "per_region": list(found.parts)}, indent=1) + "\n")
    else:
        _show(found, told)


def _ending_csv(given: str | None) -> Path | None:
    from vitrim.runs.answer_files import check_ending

    if given is None:
        return None
    check_ending(given, ".csv")
    return Path(given)


def _measured_split(chosen: Namespace, classes: tuple[str, ...]) -> tuple[Any, str]:
    """The split to measure on: of the data given, or of that of the run."""
    from vitrim.dense.spec import open_dense_data
    from vitrim.runs.folder import RunFolder

    spec, root = chosen.data, chosen.root
    if spec is None:
        if not Path(chosen.run).is_dir():
            raise ValueError("a file does not say where its data lies; give --data seg:PATH")
        record = RunFolder.open(chosen.run).record()
        spec, root = record["data"]["spec"], root or record["settings"].get("root")
    data = open_dense_data(spec, root=root)
    if data.table.names != classes:
        odd = sorted(set(data.table.names) ^ set(classes)) or ["their order"]
        raise ValueError(f"{spec} has other classes than the model: they differ in {odd[0]!r}")
    name = chosen.split or ("test" if "test" in data.splits else "val")
    return data.split(name), name


def _write_parts(found: SegmentationMetrics, file: Path) -> None:
    from vitrim.writing import write_whole

    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(found.parts[0]))
    writer.writeheader()
    writer.writerows(found.parts)
    write_whole(file, stream.getvalue().encode())


def _show(found: SegmentationMetrics, told: Mapping[str, Any]) -> None:
    """The figures in a line, then every class, the worst first."""
    from rich.console import Console
    from rich.table import Table

    from vitrim.settings.task_kinds import result_words, share

    sys.stdout.write(
        f"{told['split']}: {result_words(told)} ({found.images:,} images)\n{beside_unreduced(told)}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "IoU", "accuracy", "boundary IoU", "pixels"):
        table.add_column(heading, justify="left" if heading == "name" else "right")
    for part in sorted(found.parts, key=lambda part: (part["iou"] is None, part["iou"] or 0.0)):
        shares = [share(part[name]) for name in ("iou", "accuracy", "boundary_iou")]
        table.add_row(part["name"], *shares, f"{part['pixels']:,}")
    out = Console(soft_wrap=True, highlight=False, markup=False)
    out.print()
    out.print(table)
