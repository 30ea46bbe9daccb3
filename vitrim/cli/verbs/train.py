"""vitrim train"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vitrim.cli.segmenting import asks_for_masks, segmentation_options, train_masks
from vitrim.cli.verbs.image_text import is_about_captions, train_captions, train_options
from vitrim.cli.verbs.shared import (
    composition_options,
    data_options,
    given_list,
    given_methods,
    one_text,
    protocol_options,
    refuse_mistyped,
    training_changes,
    training_options,
)

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from vitrim.training.loop import Run

DESCRIPTION = """
Adapt a pretrained Vision Transformer to your images. The backbone stays as it is; a recipe adds a few
parameters that are trained, and may shorten the sequence of image patches so that everything runs faster.
Writes a run folder with the model, the figures of every epoch and a record of what was run. Stopped at any
moment, it goes on with --resume.
"""

EXAMPLES = """
vitrim train --data folder:flowers --out runs/flowers
vitrim train --data folder:flowers --model vit_small_patch16_224 --pretrained --recipe lora --epochs 30
vitrim train --method "LoRA(rank=4)" --method "EViT(keep=0.5, at=(4, 8))" --lr 0.002 --seed 1
vitrim train --data vtab:cifar --root vtab-1k --recipe gps --protocol vtab/gps
vitrim train --data retrieval:captions.json --root photos --method "Bipartite(at=(6,))" --out runs/words
vitrim train --task segment --data "seg:road?classes=ground,car" --method LoRA --method EViT --out runs/road
vitrim train --resume --out runs/flowers
vitrim train --init runs/flowers --epochs 10 --out runs/flowers-longer
"""


def options(parser: ArgumentParser) -> None:
    composition_options(parser)
    data_options(parser)
    parser.add_argument(
        "--task",
        type=str | None,
        metavar="{classify,multilabel,regress,segment,retrieval}",
        help="what the labels of a table are: one class a picture, several labels, or numbers to predict; "
        "not given: what they certainly are. segment: a class for every pixel, by masks; retrieval: pictures "
        "with captions",
    )
    segmentation_options(parser)
    run = parser.add_argument_group("the run")
    run.add_argument(
        "--out", type=str | None, metavar="FOLDER", help="run folder to make; not given: a new one in runs/"
    )
    run.add_argument(
        "--resume", action="store_true", help="continue the run in --out; settings are taken from there"
    )
    run.add_argument(
        "--track",
        action="append",
        type=one_text,
        metavar="NAME",
        help="tell every epoch to tensorboard, wandb, mlflow or another tracker of Accelerate too; may be "
        "repeated",
    )
    run.add_argument(
        "--init",
        type=str | None,
        metavar="RUN",
        help="start from the model, methods and weights of a finished run, with a schedule of its own: to "
        "train longer, or on other images; the classifier is kept where the classes are the same",
    )
    run.add_argument(
        "--with_baseline",
        action="store_true",
        help="then train the linear probe under equal settings, in linear-probe/ of the run folder, and say "
        "whether the difference is more than noise",
    )
    run.add_argument("--cpu", action="store_true", help="stay on the CPU where there is a GPU")
    run.add_argument("--quiet", action="store_true", help="print the result alone")
    train_options(parser)
    protocol_options(parser)
    training_options(parser)


def run(chosen: Namespace) -> None:
    if is_about_captions(chosen):
        train_captions(chosen)
        return
    if asks_for_masks(chosen):
        train_masks(chosen)
        return
    refuse_mistyped(chosen.data, chosen.recipe)
    from accelerate import PartialState

    from vitrim.training.baseline import check_baseline, train_baseline
    from vitrim.training.loop import train

    if chosen.with_baseline and not chosen.resume:
        check_baseline(chosen.recipe, given_methods(chosen))
    finished = train(
        model=chosen.model,
        data=chosen.data,
        recipe=chosen.recipe,
        methods=given_methods(chosen),
        out=chosen.out,
        training=training_changes(chosen),
        pretrained=True if chosen.pretrained else None,
        weights=chosen.weights,
        image_size=chosen.image_size,
        in_chans=chosen.in_chans,
        video=chosen.video,
        patch_size=chosen.patch_size,
        root=chosen.root,
        download=chosen.download,
        protocol=chosen.protocol,
        per_task=chosen.per_task,
        task=chosen.task,
        trackers=given_list(chosen.track),
        init=chosen.init,
        resume=chosen.resume,
        cpu=chosen.cpu,
        quiet=chosen.quiet,
    )
    probe = train_baseline(finished, cpu=chosen.cpu, quiet=chosen.quiet) if chosen.with_baseline else None
    if not PartialState().is_main_process:
        return
    show(finished)
    if probe is not None:
        compare(finished, probe)


def show(finished: Run) -> None:
    """What a run came to."""
    from vitrim.settings.task_kinds import result_words

    results = finished.record["results"]
    sys.stdout.write(
        f"{results['split']}: {result_words(results)} ({results['images']:,} images, "
        f"weights of epoch {results['epoch']}{', ' + results['mark'] if results['mark'] else ''})\n"
        f"model: {finished.folder / 'model.safetensors'}, {finished.record['model_bytes'] / 1e6:.2f} MB\n"
    )


def compare(finished: Run, probe: Run) -> None:
    """Both runs, their difference, and in what else they differ."""
    from vitrim.report.summary import accuracy_in_words, compared, names_of
    from vitrim.runs.tested import read_tested

    records = [finished.record, probe.record]
    lines = [accuracy_in_words(*each) for each in zip(names_of(records), records, strict=True)]
    lines += compared(records, [read_tested(run.folder) for run in (finished, probe)])
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
