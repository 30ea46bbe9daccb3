"""vitrim evaluate"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vitrim.cli.verbs.shared import data_options, refuse_mistyped

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
Measure a trained model on a split of a data set: the share of images classified correctly, the same averaged
over classes, and the loss.
"""

EXAMPLES = """
vitrim evaluate runs/flowers
vitrim evaluate runs/flowers --split val
vitrim evaluate runs/flowers/model.safetensors --data folder:other-flowers
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or a model.safetensors file")
    parser.add_argument("--split", type=str, default="test", help="which images: test (usual), val, train")
    parser.add_argument(
        "--batch_size", type=int, default=64, metavar="N", help="images at a time (usually 64)"
    )
    parser.add_argument("--workers", type=int | None, metavar="N", help="processes that read images")
    parser.add_argument("--precision", type=str, default="no", metavar="{no,bf16,fp16}", help="number format")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU where there is a GPU")
    data_options(parser)


def run(chosen: Namespace) -> None:
    refuse_mistyped(chosen.data)
    from accelerate import PartialState

    from vitrim.runs.evaluate import evaluate

    found = evaluate(
        chosen.run,
        chosen.data,
        chosen.split,
        root=chosen.root,
        download=chosen.download,
        batch_size=chosen.batch_size,
        workers=chosen.workers,
        precision=chosen.precision,
        cpu=chosen.cpu,
    )
    if not PartialState().is_main_process:
        return
    sys.stdout.write(
        f"{chosen.split}: {100 * found.top1:.2f} % right, {100 * found.mean_per_class:.2f} % averaged over "
        f"classes, loss {found.loss:.4f} ({found.images:,} images)\n"
    )
