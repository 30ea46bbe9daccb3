"""vitrim predict"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
Name what is on pictures, with the probability the model gives. One line per picture and class, separated by
tabs: path, class, probability.
"""

EXAMPLES = """
vitrim predict runs/flowers rose.jpg tulip.jpg
vitrim predict runs/flowers holiday-pictures/ --top 3
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or a model.safetensors file")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument(
        "--top", type=int, default=1, metavar="N", help="how many classes to name (usually 1)"
    )
    parser.add_argument(
        "--batch_size", type=int, default=64, metavar="N", help="images at a time (usually 64)"
    )
    parser.add_argument(
        "--device", type=str | None, help="cpu or cuda; not given: the GPU where there is one"
    )


def run(chosen: Namespace) -> None:
    from vitrim.runs.predict import predict

    found = predict(
        chosen.run, chosen.images, top=chosen.top, batch_size=chosen.batch_size, device=chosen.device
    )
    for prediction in found:
        sys.stdout.write(f"{prediction.path}\t{prediction.name}\t{prediction.probability:.4f}\n")
