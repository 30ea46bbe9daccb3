"""vitrim predict"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitrim.cli.asked_budget import at_budget, budget_option, methods_at_budget, one_budget_of
from vitrim.cli.segmenting import inference_option, predict_masks, refuse_given, takes_masks
from vitrim.cli.verbs.bulk import IMAGES, bulk_options, write
from vitrim.cli.verbs.image_text import predict_captions
from vitrim.cli.verbs.shared import (
    batch_options,
    native_option,
    one_text,
    size_option,
    trust_option,
)
from vitrim.retrieval.asked import is_retrieval_run

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from vitrim.data.clips.sampling import ClipSampling
    from vitrim.network.model import StagedViT
    from vitrim.runs.prediction_files import Pictures

DESCRIPTION = """
Name what is on pictures, with the probability the model gives, as fast as they are found. One line per
picture and class, separated by tabs: path, class, probability; or a table with a header, or JSON. Of a folder
all pictures are taken, those of the folders in it too; where folders are called like classes, the share of
the pictures that carry their folder's name is told at the end. Runs on clips take video files, folders of
frames, and folders or lists of these. With --out, millions go into a Parquet table:
read by several processes, and what was stopped, however it was, goes on with the same command. A run of
segmentation writes a mask for each picture into the folder of --out.
"""

EXAMPLES = """
vitrim predict runs/flowers rose.jpg tulip.jpg
vitrim predict runs/flowers holiday-pictures/ --top 3
vitrim predict runs/flowers folder-of-class-folders/ --csv predictions.csv
vitrim predict runs/flowers inbox/ --json - --skip_broken
vitrim predict runs/words photos/ --text "a red boat" --text "a dog" --by text --top 3
vitrim predict runs/actions clip.mp4 folder-of-clips/ --csv predictions.csv
vitrim predict runs/flowers "archive/**/*.jpg" --out archive.parquet --top 5 --embeddings
vitrim predict runs/road street.jpg --out masks --overlay --polygons
vitrim predict runs/flowers list.txt --out /shared/archive --on ray
"""


ONLY_TABLES = ("embeddings", "download", "workers", "part_size", "on", "actors")


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a run folder, a model.safetensors file, or an exported .onnx or .pt2 file",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help=IMAGES)
    parser.add_argument(
        "--top", type=int, default=1, metavar="N", help="how many classes to name (usually 1)"
    )
    parser.add_argument(
        "--out",
        type=str | None,
        metavar="TABLE",
        help="write a Parquet table: a file that ends in .parquet, or a folder that gets one for each part",
    )
    parser.add_argument(
        "--embeddings", action="store_true", help="with --out, also write what the classifier reads"
    )
    parser.add_argument(
        "--csv",
        type=str | None,
        metavar="FILE",
        help="write a table: path, truth (the folder's class), rank, class, probability; - is the screen",
    )
    parser.add_argument(
        "--json",
        type=str | None,
        metavar="FILE",
        help="write a JSON list with an object for each picture; - is the screen",
    )
    parser.add_argument(
        "--skip_broken",
        action="store_true",
        help="go on past pictures that cannot be read, and list them at the end with exit code 2; with "
        "--out, where they are always listed in a file beside it, go on even past whole parts of them",
    )
    parser.add_argument(
        "--text",
        action="append",
        type=one_text,
        metavar="WORDS",
        help="of a retrieval run: a caption to compare pictures with, or a .txt file of them; may be "
        "repeated",
    )
    parser.add_argument(
        "--by",
        type=Literal["image", "text"],
        default="image",
        help="of a retrieval run: image (the captions that fit each picture best) or text (the pictures that "
        "fit each caption best); usually image",
    )
    parser.add_argument(
        "--overlay", action="store_true", help="of segmentation: also write the picture under its classes"
    )
    parser.add_argument(
        "--polygons", action="store_true", help="of segmentation: also write the outlines of regions as JSON"
    )
    inference_option(parser)
    batch_options(parser)
    size_option(parser)
    native_option(parser)
    trust_option(parser)
    budget_option(parser)
    bulk_options(parser)


def run(chosen: Namespace) -> None:
    if is_retrieval_run(chosen.run):
        predict_captions(chosen)
        return
    if chosen.text is not None or chosen.by != "image":
        raise ValueError("--text and --by go with a run that was trained on pictures with captions")
    if takes_masks(chosen.run):
        predict_masks(chosen)
        return
    refuse_given(chosen, "overlay", "polygons", "inference")
    if chosen.out is not None:
        _into_table(chosen)
    else:
        _into_lines(chosen)


def _into_table(chosen: Namespace) -> None:
    from vitrim.deploy.bulk.opening import Opening

    if chosen.csv is not None or chosen.json is not None:
        raise ValueError("--out writes a Parquet table and --csv and --json write text; give one of them")
    if chosen.native is not None:
        raise ValueError("--native goes with lines, --csv and --json; --out reads images of one size")
    if Path(chosen.out).suffix.lower() in (".csv", ".json"):
        kind = Path(chosen.out).suffix.lower().removeprefix(".")
        raise ValueError(
            f"--out writes a Parquet table, got {chosen.out}; write --{kind} {chosen.out} for text, or give "
            "a name that ends in .parquet"
        )
    opening = Opening(
        chosen.run,
        image_size=chosen.image_size,
        trust=chosen.trust,
        budgeted=methods_at_budget(chosen.run, chosen),
    )
    write(chosen, opening, chosen.images, chosen.top, chosen.embeddings)


def _into_lines(chosen: Namespace) -> None:
    from collections import Counter

    from vitrim.data.finding import unread_note
    from vitrim.deploy.exported import open_answering
    from vitrim.runs.image_lists import as_images
    from vitrim.runs.predict import predictions
    from vitrim.runs.prediction_files import WRITERS, Pictures, output

    if chosen.csv is not None and chosen.json is not None:
        raise ValueError("--csv and --json are two ways to write the same; give one of them")
    given = [name for name in ONLY_TABLES if chosen[name] is not None and chosen[name] is not False]
    if given:
        raise ValueError(f"{' and '.join(given)} must go with --out, a table of many images")
    form, file = next(
        ((form, file) for form, file in (("csv", chosen.csv), ("json", chosen.json)) if file), ("text", "-")
    )
    model = open_answering(chosen.run, chosen.trust, chosen.image_size)
    share = one_budget_of(chosen)
    if share is not None:
        at_budget(model, share, chosen.run, chosen)
    unread: Counter[str] = Counter()
    broken: list[str] | None = [] if chosen.skip_broken else None
    sampling = _sampling(model, chosen.run)
    wanted = chosen.images if sampling is not None else as_images(chosen.images, unread)
    found = predictions(
        model, wanted, top=chosen.top, batch_size=chosen.batch_size,
        device=chosen.device, unread=unread, broken=broken, clips=sampling, native=chosen.native,
    )  # fmt: skip
    pictures = Pictures(found, chosen.images, model.classes or ())
    with output(file) as stream:
        try:
            WRITERS[form](pictures, stream)
        except BaseException:
            if file != "-":
                _say(f"stopped; what was predicted before is in {stream.name}")
            raise
    _end(pictures, file, unread_note(unread), broken or [])


def _sampling(model: StagedViT, run: str) -> ClipSampling | None:
    """How a model of clips chooses frames, as its run did."""
    from vitrim.runs.given_clips import stored_sampling
    from vitrim.video.model import VideoModel

    return stored_sampling(run) if isinstance(model, VideoModel) else None


def _end(pictures: Pictures, file: str, notes: list[str], broken: list[str]) -> None:
    """What to know besides the lines; on the error output, so that the lines can be piped."""
    if file != "-":
        sys.stdout.write(f"{pictures.count:,} pictures: {file}\n")
    if pictures.known:
        _say(
            f"of {pictures.known:,} pictures in folders named after classes, {pictures.right:,} "
            f"({100 * pictures.right / pictures.known:.2f} %) are given their folder's name"
        )
    for line in (*notes, *broken):
        _say(line)
    if broken:
        raise ValueError(f"{len(broken):,} pictures cannot be read; they are listed above")


def _say(line: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"vitrim: {line}\n")
