"""vitrim explain"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
Explain what a model says to pictures: its answer with probabilities, which patches still had a token of their
own after each block that shortens the sequence, which were merged, fused or dropped, and what the model
attends to in its last block beside the plain backbone, the reducers alone and the tuners alone. For every
picture a PNG to look at and a JSON file with all numbers in it are written. Pictures that cannot be read are
passed over and listed at the end, with exit code 2.
"""

EXAMPLES = """
vitrim explain runs/flowers rose.jpg --out explained
vitrim explain runs/flowers/model.safetensors holiday-pictures/ --out explained --top 3
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or a model.safetensors file")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--out", type=str, required=True, metavar="FOLDER", help="folder to write to")
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="how many classes to name (usually 5)"
    )


def run(chosen: Namespace) -> None:
    from collections import Counter

    from vitrim.data.finding import unread_note
    from vitrim.report.explaining import explain, file_name

    used: set[str] = set()
    unread: Counter[str] = Counter()
    broken: list[str] = []
    for explained in explain(chosen.run, chosen.images, top=chosen.top, unread=unread, broken=broken):
        name = file_name(explained.name)
        while name in used:
            name += "-again"
        used.add(name)
        said = ", ".join(f"{guess} {value:.4g}" for guess, value in explained.guesses)
        lines = [f"{explained.name}: {said or 'features, no classes'}"]
        lines += [f"  {each.words}" for each in explained.maps]
        lines += [f"  attention: {each.words}" for each in explained.attention if each.cosine is not None]
        lines.append(f"  {explained.save(chosen.out, name)}")
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
    for line in (*unread_note(unread), *broken):
        sys.stderr.write(f"vitrim: {line}\n")
    if broken:
        raise ValueError(f"{len(broken):,} pictures cannot be read; they are listed above")
