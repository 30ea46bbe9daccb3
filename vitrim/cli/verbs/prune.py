"""vitrim prune"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
Leave out the last blocks of a trained model, as many as its task does not need. Every block is scored by how
well its features part the classes of the training images; from the last block back, blocks go as long as the
one before is good enough. Writes a run folder of its own, whose model is cut but not trained further: start
from it with vitrim train --init.
"""

EXAMPLES = """
vitrim prune runs/flowers --out runs/flowers-cut
vitrim prune runs/flowers --out runs/flowers-cut --rule probe --alpha 0.9
vitrim train --init runs/flowers-cut --epochs 10 --out runs/flowers-shallow
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a finished run folder")
    parser.add_argument("--out", type=str | None, metavar="FOLDER", help="folder to write the pruned run to")
    parser.add_argument(
        "--rule",
        type=str,
        default="silhouette",
        metavar="{silhouette,probe}",
        help="silhouette: of the classes after t-SNE, as SLS does; probe: accuracy of a linear classifier on "
        "the features beyond chance, much faster",
    )
    parser.add_argument(
        "--alpha",
        type=float | None,
        metavar="SHARE",
        help="how good a block has to be, as a share of the last one; not given: 0.3, with probe 0.95",
    )
    parser.add_argument("--root", type=str | None, metavar="PATH", help="where the files of the data are now")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU where there is a GPU")


def run(chosen: Namespace) -> None:
    if chosen.out is None:
        raise ValueError("where shall the pruned run go? give --out FOLDER")
    from vitrim.settings.task_kinds import result_words
    from vitrim.training.pruned import prune_run

    def tell(block: int, score: float) -> None:
        sys.stdout.write(f"block {block:>2}  {score:.3f}\n")

    found = prune_run(
        chosen.run, chosen.out, rule=chosen.rule, alpha=chosen.alpha, root=chosen.root, cpu=chosen.cpu,
        tell=tell,
    )  # fmt: skip
    blocks = len(found.scores)
    if found.folder is None or found.results is None:
        sys.stdout.write(f"the task needs all {blocks} blocks: nothing is pruned, nothing written\n")
        return
    sys.stdout.write(
        f"kept {found.kept} of {blocks} blocks; before any further training, {found.results['split']}: "
        f"{result_words(found.results)}\n"
        f"go on with: vitrim train --init {found.folder} --out FOLDER\n"
    )
