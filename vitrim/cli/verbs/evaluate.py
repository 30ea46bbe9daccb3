"""vitrim evaluate"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.cli.asked_budget import at_budget, budget_option, budgets_of
from vitrim.cli.each_budget import at_each_budget, draw, in_lines, picture_place
from vitrim.cli.measuring_masks import evaluate_masks
from vitrim.cli.segmenting import inference_option, refuse_given, takes_masks
from vitrim.cli.verbs.image_text import evaluate_captions
from vitrim.cli.verbs.shared import (
    data_options,
    native_option,
    refuse_mistyped,
    size_option,
    trust_option,
)
from vitrim.retrieval.asked import is_retrieval_run

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from vitrim.runs.evaluate import Answers

DESCRIPTION = """
Measure a trained model on a split of a data set: the share of images classified correctly, the same averaged
over classes, and the loss; then every class by itself, and the images it is most wrong about. Of several
labels a picture: mean average precision and F1; of numbers: mean absolute error and R2; of
segmentation: mIoU, mean accuracy and boundary IoU over all pixels, and every class; of pictures
with captions: recall both ways.
"""

EXAMPLES = """
vitrim evaluate runs/flowers
vitrim evaluate runs/flowers --split val --predictions answers.csv --confusion confusion.csv
vitrim evaluate runs/flowers/model.safetensors --data folder:other-flowers
vitrim evaluate runs/flowers --budget 0.5,0.7,0.9 --picture budgets.png
"""

FEW = 20  # classes up to which every one gets a line


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a run folder, a model.safetensors file, or an exported .onnx or .pt2 file",
    )
    parser.add_argument(
        "--split",
        type=str | None,
        metavar="{test,val,train}",
        help="which images; not given: test, or val where there is no test split",
    )
    parser.add_argument(
        "--batch_size", type=int, default=64, metavar="N", help="images at a time (usually 64)"
    )
    parser.add_argument("--workers", type=int | None, metavar="N", help="processes that read images")
    parser.add_argument("--precision", type=str, default="no", metavar="{no,bf16,fp16}", help="number format")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU where there is a GPU")
    size_option(parser)
    native_option(parser)
    trust_option(parser)
    budget_option(parser, several=True)
    data_options(parser)
    _output_options(parser)


def _output_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what is shown and written")
    group.add_argument(
        "--predictions",
        type=str | None,
        metavar="FILE",
        help="write path, truth, prediction, confidence and loss of every image to FILE.csv or FILE.json",
    )
    group.add_argument(
        "--per_class", type=str | None, metavar="FILE.csv", help="write the figures of every class"
    )
    group.add_argument(
        "--confusion", type=str | None, metavar="FILE.csv", help="write which class was taken for which"
    )
    group.add_argument(
        "--picture",
        type=str | None,
        metavar="FILE.png",
        help="of several budgets: draw the main figure against what an image costs; the figures go to "
        "FILE.budgets.json beside it",
    )
    group.add_argument(
        "--worst",
        type=int,
        default=5,
        metavar="N",
        help="how many of the most wrong images to show (usually 5)",
    )
    found = parser.add_argument_group("of image-text retrieval")
    found.add_argument(
        "--k_test",
        type=int | None,
        metavar="N",
        help="how many of the most similar are matched again, where the model can (usually 128)",
    )
    found.add_argument(
        "--beta",
        type=float | None,
        metavar="WEIGHT",
        help="weight of the similarity beside the match (usually 0, as UniAdapter; BLIP has 1)",
    )
    group.add_argument("--json", action="store_true", help="print all figures as JSON instead")
    group.add_argument(
        "--unreduced",
        action="store_true",
        help="of segmentation: also measure the same weights without reduction, and how far both agree",
    )
    inference_option(group)


def run(chosen: Namespace) -> None:
    if is_retrieval_run(chosen.run):
        evaluate_captions(chosen)
        return
    if takes_masks(chosen.run, chosen.data):
        evaluate_masks(chosen)
        return
    refuse_given(chosen, "unreduced", "inference")
    for name in ("k_test", "beta"):
        if chosen[name] is not None:
            raise ValueError(f"--{name} goes with a run that was trained on pictures with captions")
    refuse_mistyped(chosen.data)
    from accelerate import PartialState

    from vitrim.deploy.exported import open_answering
    from vitrim.runs import answer_files as files
    from vitrim.runs.evaluate import answer
    from vitrim.runs.measured_split import open_measured
    from vitrim.runs.tested import differs, read_tested

    if chosen.worst < 0:
        raise ValueError(f"worst must be at least 0, got {chosen.worst}")
    predictions = chosen.predictions and files.check_ending(chosen.predictions, ".csv", ".json")
    per_class = chosen.per_class and files.check_ending(chosen.per_class, ".csv")
    confusion = chosen.confusion and files.check_ending(chosen.confusion, ".csv")
    shares = budgets_of(chosen)
    place = picture_place(chosen, shares)
    model = open_answering(chosen.run, chosen.trust, chosen.image_size)
    data, split = open_measured(
        chosen.run, chosen.data, chosen.split, chosen.root, chosen.download, model.task
    )
    how = {name: chosen[name] for name in ("batch_size", "workers", "precision", "cpu", "native")}
    if len(shares) > 1:
        if predictions or per_class or confusion:
            raise ValueError("files are written of one budget; give --budget one share, or leave them out")
        rows = at_each_budget(model, shares, chosen, lambda: answer(model, data, split, **how), data)
        if PartialState().is_main_process:
            sys.stdout.write(json.dumps(rows, indent=1) + "\n" if chosen.json else in_lines(rows))
            if place is not None:
                sys.stderr.write(f"vitrim: drawn to {place}, figures in {draw(rows, place, split)}\n")
        return
    for share in shares:
        at_budget(model, share, chosen.run, chosen, chosen.data)
    found = answer(model, data, split, **how)
    if not PartialState().is_main_process:
        return
    if chosen.data is None and differs(read_tested(Path(chosen.run)), data, split):
        sys.stderr.write(
            f"vitrim: these are not the {split} pictures that the run was tested on: files came, went or "
            "changed, and some may have been trained on\n"
        )
    if predictions:
        files.write_answers(found, predictions)
    if per_class:
        files.write_parts(found, per_class)
    if confusion:
        files.write_confusion(found, confusion)
    if chosen.json:
        sys.stdout.write(json.dumps(as_json(found, split, chosen.worst), indent=1) + "\n")
    else:
        unnamed = f" ({data.spec} has no test split)" if chosen.split is None and split != "test" else ""
        show(found, f"{split}{unnamed}", chosen.worst)


def as_json(found: Answers, split: str, worst: int) -> dict[str, Any]:
    """All that is known, as values of JSON."""
    from vitrim.settings.task_kinds import TASK_KINDS

    shown: dict[str, Any] = {"split": split, "task": found.task, **found.metrics.to_json()}
    shown[TASK_KINDS[found.task].parts] = list(found.metrics.parts)
    if found.task == "classify":
        shown["confusion"] = [list(row) for row in getattr(found.metrics, "confusion", ())]
    return shown | {"most_wrong": found.most_wrong(worst)}


def show(found: Answers, split: str, worst: int) -> None:
    """The figures in a line, then the classes and the images."""
    from rich.console import Console

    from vitrim.settings.task_kinds import result_words

    metrics = found.metrics
    called, speed = clip_words(metrics)
    sys.stdout.write(
        f"{split}: {result_words(metrics.to_json())}, loss {metrics.loss:.4f} "
        f"({metrics.images:,} {called}{speed})\n"
    )
    for name in getattr(metrics, "unreadable", ()):
        sys.stderr.write(f"vitrim: cannot be read and counts as wrong: {name}\n")
    out = Console(soft_wrap=True, highlight=False, markup=False)
    out.print()
    out.print(_part_table(found))
    rows = found.most_wrong(worst)
    if rows:
        out.print(f"\nmost wrong (of {metrics.images:,} {called}, by loss):")
    for row in rows:
        out.print(f"  {row['path']}  {_wrong_words(row)}")


def clip_words(metrics: Any) -> tuple[str, str]:
    """What was measured on, and of clips how fast and how good every view is alone."""
    if not getattr(metrics, "views", ()):
        return "images", ""
    views = ""
    if len(metrics.views) > 1:
        views = ", views alone " + " ".join(f"{100 * share:.2f}" for share in metrics.views) + " %"
    return "clips", f", {metrics.per_second:.2f} clips/s{views}" if metrics.per_second else views


def _part_table(found: Answers) -> Any:
    """Every class, or those with the worst figures where there are many."""
    from rich.table import Table

    from vitrim.settings.task_kinds import part_cell, part_heading, worst_first

    parts: list[Any] = list(found.metrics.parts)
    title = None
    if len(parts) > FEW:
        title = f"the {FEW} worst of {len(parts)}; --per_class FILE.csv has all"
        parts = worst_first(parts)[:FEW]
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for name in parts[0]:
        table.add_column(part_heading(name), justify="left" if name == "name" else "right")
    for part in parts:
        table.add_row(*(part_cell(name, value) for name, value in part.items()))
    return table


def _wrong_words(row: dict[str, Any]) -> str:
    if "confidence" in row:
        return f"is {row['truth']}, taken for {row['prediction']} ({100 * row['confidence']:.1f} %)"
    if "confidences" in row:
        truth, given = (", ".join(row[name]) or "nothing" for name in ("truth", "prediction"))
        return f"is {truth}, taken for {given}"
    values = [
        f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, float) and name != "loss"
    ]
    return ", ".join(values)
