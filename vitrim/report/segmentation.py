"""The page about runs of segmentation: figures beside each other, every class, and test pictures with what
was said of them and where that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

from vitrim.dense.classes import IGNORE, ClassTable
from vitrim.dense.masks import Labels, overlay
from vitrim.dense.model import DenseModel
from vitrim.dense.predicting import labels_of
from vitrim.dense.saving import load_dense
from vitrim.dense.source import DenseSplit
from vitrim.dense.spec import open_dense_data
from vitrim.files.saving import SEGMENT
from vitrim.report.charts.learning import learning
from vitrim.report.html import charts, facts, heading, paragraph, table
from vitrim.report.maps.sheet import embedded
from vitrim.report.page import document
from vitrim.runs.answer_files import check_ending
from vitrim.runs.folder import RunFolder
from vitrim.settings.task_kinds import share
from vitrim.writing import write_whole

SHOWN, SIDE = 6, 320  # test pictures, and their longest side in pixels
WRONG, UNLABELLED = (230, 30, 30), (150, 150, 150)


def is_of_masks(runs: Sequence[str | Path]) -> bool:
    """Whether these runs are of segmentation; refused where only some are."""
    found = {path: RunFolder.open(path).record().get("data", {}).get("task") == SEGMENT for path in runs}
    if any(found.values()) and not all(found.values()):
        odd = next(path for path, masks in found.items() if not masks)
        raise ValueError(f"{odd} is no run of segmentation, and the others are; report them apart")
    return any(found.values())


def write_mask_report(
    runs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    data: str | None = None,
    root: str | Path | None = None,
    charts_folder: str | Path | None = None,
) -> Path:
    """Write the page about finished runs of segmentation; arguments as for `vitrim.report.write_report`."""
    if out is not None:
        check_ending(out, ".html", ".htm")
    folders = [RunFolder.open(path) for path in runs]
    records = [_finished(folder) for folder in folders]
    first = records[0]
    source = open_dense_data(data or first["data"]["spec"], root=root or first["settings"]["root"])
    model = load_dense(folders[0].path)
    if source.table.names != model.table.names:
        raise ValueError(f"{source.spec} has other classes than the run; give the data it was trained on")
    split = source.split(first["results"]["split"])
    histories = {folder.path.name: folder.history() for folder in folders}
    curves = learning(histories)
    title = f"segmentation of {first['data']['spec']}"
    parts = [f"<h1>{escape(title)}</h1>", paragraph(_subtitle(first), note=True)]
    parts += [_figures(folders, records), *_pictures(model, split)]
    parts += [heading("Learning"), charts(curves), *_by_class(first, model.table), *_what_was_run(first)]
    file = Path(out) if out is not None else folders[0].path / "report.html"
    write_whole(file, document(title, "\n".join(parts)).encode())
    if charts_folder is not None:
        for chart in curves:
            chart.save(charts_folder)
    return file


def _finished(folder: RunFolder) -> dict[str, Any]:
    record = folder.record()
    if record.get("status") != "finished" or "results" not in record:
        raise ValueError(f"the run {folder.path} has not finished; continue it with resume")
    return record


def _subtitle(record: Mapping[str, Any]) -> str:
    dense, methods = record["settings"]["dense"], ", ".join(record["settings"]["methods"])
    return (
        f"{record['settings']['model']}; {methods or 'only the decoder trains'}; restore {dense['restore']}, "
        f"decoder {dense['decoder']}; finished {str(record.get('finished', ''))[:10]}"
    )


def _figures(folders: Sequence[RunFolder], records: Sequence[Mapping[str, Any]]) -> str:
    """A line for each run."""
    heads = (
        "run", "methods", "mIoU", "mean accuracy", "pixels right", "boundary IoU", "of unreduced", "alike",
        "GMACs", "trained",
    )  # fmt: skip
    rows = []
    for folder, record in zip(folders, records, strict=True):
        results, costs = record["results"], record["costs"]
        rows.append((
            folder.path.name, ", ".join(record["settings"]["methods"]) or "none",
            *(_percent(results.get(name)) for name in (
                "miou", "macc", "aacc", "boundary_iou", "relative_miou", "agreement",
            )),
            costs["gmacs"], costs["trained_parameters"],
        ))  # fmt: skip
    note = (
        f"Over all pixels of the {records[0]['results']['split']} pictures. Of unreduced: the mIoU as a "
        "share of that of the same weights without reduction; alike: the share of pixels both tell the "
        "same class. GMACs: billions of multiply-adds for one window, decoder included."
    )
    return table(heads, rows, name="runs", own=1) + paragraph(note, note=True)


def _percent(value: float | None) -> tuple[str, float | None]:
    return ("" if value is None else share(value)), value


def _pictures(model: DenseModel, split: DenseSplit) -> list[str]:
    """Test pictures evenly from the whole split: as they are, as labelled, as said, and where both differ."""
    places = sorted({round(place) for place in numpy.linspace(0, len(split) - 1, min(SHOWN, len(split)))})
    rows = []
    for place in places:
        image, labels = split[place]
        said = labels_of(model, image)
        right = float((said == labels)[labels != IGNORE].mean()) if (labels != IGNORE).any() else None
        shown = (
            ("picture", image),
            ("labelled", overlay(image, labels, model.table)),
            ("said", overlay(image, said, model.table)),
            ("wrong (red), without label (grey)", errors(image, labels, said)),
        )
        name = Path(split.names[place]).name
        told = f"{name}: {'no labelled pixel' if right is None else share(right) + ' of its pixels right'}"
        cells = "".join(_figure(caption, picture) for caption, picture in shown)
        rows.append(f'{heading(told, 3)}<div class="charts">{cells}</div>')
    return [heading("What it says of test pictures"), _legend(model.table), *rows]


def _figure(caption: str, picture: Image.Image) -> str:
    source = embedded(numpy.asarray(picture.convert("RGB"), dtype=numpy.float64) / 255, SIDE)
    words = escape(caption)
    return f'<figure><img alt="{words}" src="{source}"><figcaption>{words}</figcaption></figure>'


def errors(image: Image.Image, labels: Labels, said: Labels) -> Image.Image:
    """The picture in grey, wrong pixels red, those without a label grey throughout."""
    grey = numpy.repeat(numpy.asarray(image.convert("L"), dtype=numpy.uint8)[..., None], 3, axis=-1)
    known = labels != IGNORE
    grey[known & (labels != said)] = WRONG
    grey[~known] = UNLABELLED
    return Image.fromarray(grey)


def _legend(classes: ClassTable) -> str:
    entries = (
        f'<span style="border-left:1em solid rgb{colour};padding:0 1em 0 .3em">{escape(name)}</span>'
        for name, colour in zip(classes.names, classes.colours, strict=True)
    )
    return f"<p>{' '.join(entries)}</p>"


def _by_class(record: Mapping[str, Any], classes: ClassTable) -> list[str]:
    rows = [
        (
            part["name"],
            *(_percent(part[name]) for name in ("iou", "accuracy", "boundary_iou")),
            part["pixels"],
        )
        for part in record["results"]["per_region"]
    ]
    heads = ("class", "IoU", "accuracy", "boundary IoU", "pixels")
    return [heading("Every class"), table(heads, rows, name="classes")]


def _what_was_run(record: Mapping[str, Any]) -> list[str]:
    settings, dense = record["settings"], record["settings"]["dense"]
    training = settings["training"]
    told = {
        "command": str(record.get("command", "")),
        "backbone": settings["model"],
        "methods": ", ".join(settings["methods"]) or "none",
        "pixels by": ", ".join(dense[each] for each in ("restore", "decoder", "inference")),
        "training": f"{training['epochs']} epochs, batches of {training['batch_size']}, lr "
        f"{training['lr']:g}, augment {training['augment']}, seed {training['seed']}",
        "data": record["data"]["spec"],
    }
    return [heading("What was run"), facts(told)]
