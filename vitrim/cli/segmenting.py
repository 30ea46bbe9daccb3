"""What verbs do where classes are of pixels: options, and training, measuring and predicting by masks."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.data.kinds import has_masks

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from vitrim.dense.metrics import SegmentationMetrics

FIELDS = ("restore", "taps", "decoder", "inference")
NOT_MEASURED = ("predictions", "confusion")
NOT_PREDICTED = (
    "csv",
    "json",
    "embeddings",
    "workers",
    "part_size",
    "on",
    "actors",
    "skip_broken",
    "download",
)
NOT_TRAINED = ("init", "with_baseline", "track", "protocol", "per_task", "download")


def segmentation_options(parser: ArgumentParser) -> None:
    """How patches become pixels again."""
    group = parser.add_argument_group("segmentation")
    group.add_argument(
        "--restore",
        type=str | None,
        metavar="{delta,copy,knn,fuse_last,logits}",
        help="how patches that were reduced come back on the grid (usually delta)",
    )
    group.add_argument(
        "--taps",
        type=list[int] | None,
        metavar="[BLOCK, ...]",
        help='blocks whose maps are read, counted from 0, such as "[3, 5, 7, 11]"; not given: these of 12',
    )
    group.add_argument(
        "--decoder",
        type=str | None,
        metavar="{linear,upernet,smp:NAME}",
        help="what makes classes of the maps (usually linear)",
    )
    inference_option(group)


def inference_option(group: Any) -> None:
    group.add_argument(
        "--inference",
        type=str | None,
        metavar="{slide,whole}",
        help="of segmentation: a window slides over the picture, or all of it is resized (usually slide)",
    )


def asks_for_masks(chosen: Namespace) -> bool:
    """Whether a training is one of segmentation: it says so, its data has masks, or the run to resume was."""
    if chosen.task == "segment" or (chosen.data is not None and has_masks(chosen.data)):
        return True
    if chosen.resume and chosen.out is not None:
        from vitrim.runs.folder import RunFolder

        folder = RunFolder(chosen.out)
        if folder.record_file.is_file() and folder.record().get("data", {}).get("task") == "segment":
            return True
    refuse_given(chosen, *FIELDS)
    return False


def refuse_given(chosen: Namespace, *names: str) -> None:
    """Refuse options of segmentation where nothing is segmented."""
    given = [name for name in names if chosen[name] is not None and chosen[name] is not False]
    if given:
        raise ValueError(f"--{given[0]} is of segmentation; leave it out here")


def refuse_of_pictures(chosen: Namespace, *names: str) -> None:
    """Refuse options that mean nothing for masks."""
    given = [name for name in names if chosen[name] is not None and chosen[name] is not False]
    if given:
        raise ValueError(
            f"--{given[0]} is of whole pictures and has no meaning for segmentation; leave it out"
        )


def takes_masks(run: str, data: str | None = None) -> bool:
    """Whether a run or file is to be asked for masks."""
    if data is not None and not has_masks(data):
        return False
    if not Path(run).exists():
        return False  # whoever opens it says so
    from vitrim.dense.saving import is_dense_model

    return is_dense_model(run)


def train_masks(chosen: Namespace) -> None:
    """vitrim train --task segment"""
    from vitrim.cli.verbs.shared import given_methods, training_changes
    from vitrim.dense.training import train_dense
    from vitrim.settings.task_kinds import result_words

    if chosen.task not in (None, "segment"):
        raise ValueError(f"{chosen.data} has masks, so its task is segment, not {chosen.task}")
    refuse_of_pictures(chosen, *NOT_TRAINED)
    finished = train_dense(
        model=chosen.model, data=chosen.data, recipe=chosen.recipe, methods=given_methods(chosen),
        out=chosen.out, restore=chosen.restore, taps=chosen.taps, decoder=chosen.decoder,
        inference=chosen.inference, training=training_changes(chosen),
        pretrained=True if chosen.pretrained else None, weights=chosen.weights,
        image_size=chosen.image_size, in_chans=chosen.in_chans, root=chosen.root, resume=chosen.resume,
        cpu=chosen.cpu, quiet=chosen.quiet,
    )  # fmt: skip
    results = finished.record["results"]
    mark = f", {results['mark']}" if results["mark"] else ""
    sys.stdout.write(
        f"{results['split']}: {result_words(results)} ({results['images']:,} images, weights of epoch "
        f"{results['epoch']}{mark})\n{_beside_unreduced(results)}"
        f"model: {finished.folder / 'model.safetensors'}, {finished.record['model_bytes'] / 1e6:.2f} MB\n"
    )


def _beside_unreduced(results: Mapping[str, Any]) -> str:
    """How it compares with the same weights without reduction, in a line."""
    if results.get("agreement") is None:
        return ""
    share = results.get("relative_miou")
    relative = "not defined" if share is None else f"{100 * share:.2f} %"
    return (
        f"of the same weights without reduction: {relative} of its mIoU, {100 * results['agreement']:.2f} % "
        "of pixels alike\n"
    )


def evaluate_masks(chosen: Namespace) -> None:
    """vitrim evaluate, of a run of segmentation."""
    from vitrim.cli.verbs.shared import steps
    from vitrim.dense.evaluating import measure, unreduced
    from vitrim.dense.saving import load_dense
    from vitrim.measuring.devices import start_accelerator

    refuse_of_pictures(chosen, *NOT_MEASURED)
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
        f"{told['split']}: {result_words(told)} ({found.images:,} images)\n{_beside_unreduced(told)}"
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


def predict_masks(chosen: Namespace) -> None:
    """vitrim predict, of a run of segmentation: masks, overlays and outlines in a folder."""
    from vitrim.data.finding import unread_note
    from vitrim.dense.predicting import names_for, segment, write_segmented
    from vitrim.dense.saving import load_dense
    from vitrim.measuring.devices import pick_device
    from vitrim.runs.image_lists import each_path

    refuse_of_pictures(chosen, *NOT_PREDICTED)
    if chosen.out is None:
        raise ValueError("a run of segmentation writes masks: give --out FOLDER for them")
    out = Path(chosen.out)
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file; give a folder for the masks")
    unread: Counter[str] = Counter()
    images = list(each_path(chosen.images, unread))
    if not images:
        raise ValueError(f"there are no pictures in {', '.join(chosen.images)}")
    forms = ["mask", *(form for form in ("overlay", "polygons") if chosen[form])]
    model = load_dense(chosen.run, device=pick_device(chosen.device), image_size=chosen.image_size)
    found = segment(model, images, chosen.inference, chosen.batch_size)
    for name, picture in zip(names_for(images), found, strict=True):
        file = write_segmented(picture, out, name, forms)[0]
        shares = ", ".join(
            f"{called} {100 * part:.1f} %" for called, part in list(picture.shares().items())[:5]
        )
        sys.stdout.write(f"{picture.path}\t{file}\t{shares}\n")
    for line in unread_note(unread):
        sys.stderr.write(f"vitrim: {line}\n")
