"""What verbs do where classes are of pixels: options, and training, measuring and predicting by masks."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.cli.used_options import refuse_unused
from vitrim.data.kinds import has_masks
from vitrim.settings.training import Training

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


FIELDS = ("restore", "taps", "decoder", "inference")
BESIDE = (
    "data", "root", "task", "model", "pretrained", "weights", "image_size", "in_chans", "patch_size",
    "recipe", "method", "out", "resume",
)  # fmt: skip
PREDICTED = ("out", "overlay", "polygons", "inference", "batch_size", "device", "image_size")
ABOUT = "segmentation"


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
    refuse_unused(chosen, (*BESIDE, *FIELDS, *(field.name for field in fields(Training))), ABOUT)
    finished = train_dense(
        model=chosen.model, data=chosen.data, recipe=chosen.recipe, methods=given_methods(chosen),
        out=chosen.out, restore=chosen.restore, taps=chosen.taps, decoder=chosen.decoder,
        inference=chosen.inference, training=training_changes(chosen),
        pretrained=True if chosen.pretrained else None, weights=chosen.weights,
        image_size=chosen.image_size, in_chans=chosen.in_chans, patch_size=chosen.patch_size,
        root=chosen.root, resume=chosen.resume,
        cpu=chosen.cpu, quiet=chosen.quiet,
    )  # fmt: skip
    results = finished.record["results"]
    mark = f", {results['mark']}" if results["mark"] else ""
    sys.stdout.write(
        f"{results['split']}: {result_words(results)} ({results['images']:,} images, weights of epoch "
        f"{results['epoch']}{mark})\n{beside_unreduced(results)}"
        f"model: {finished.folder / 'model.safetensors'}, {finished.record['model_bytes'] / 1e6:.2f} MB\n"
    )


def beside_unreduced(results: Mapping[str, Any]) -> str:
    """How it compares with the same weights without reduction, in a line."""
    if results.get("agreement") is None:
        return ""
    share = results.get("relative_miou")
    relative = "not defined" if share is None else f"{100 * share:.2f} %"
    return (
        f"of the same weights without reduction: {relative} of its mIoU, {100 * results['agreement']:.2f} % "
        "of pixels alike\n"
    )


def predict_masks(chosen: Namespace) -> None:
    """vitrim predict, of a run of segmentation: masks, overlays and outlines in a folder."""
    from vitrim.data.finding import unread_note
    from vitrim.dense.predicting import names_for, segment, write_segmented
    from vitrim.dense.saving import load_dense
    from vitrim.measuring.devices import pick_device
    from vitrim.runs.image_lists import each_path

    refuse_unused(chosen, PREDICTED, ABOUT)
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
