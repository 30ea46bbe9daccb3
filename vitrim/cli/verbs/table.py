"""vitrim table"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
The accuracies of all finished runs below a folder, recipes by tasks: means over seeds, VTAB's tasks by group
with the group means, and the two averages that papers print. Runs of masks, labels or numbers have their
mIoU, mAP or R2 in columns of their own. Runs whose weights were selected by the test figure are marked.
"""

EXAMPLES = """
vitrim table runs/first
vitrim table runs --by recipe epochs
vitrim table runs/first --markdown > table.md
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="a sweep's folder, or any that holds run folders")
    parser.add_argument(
        "--by",
        nargs="+",
        default=["recipe"],
        metavar="NAME",
        help="what tells rows apart: recipe, methods, model, image_size or training settings such as lr",
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--csv", action="store_true", help="print comma-separated values")


def run(chosen: Namespace) -> None:
    from vitrim.sweep.found import find_runs
    from vitrim.sweep.grouped import make_table
    from vitrim.sweep.show import markdown, print_table, to_csv

    if chosen.markdown and chosen.csv:
        raise ValueError("--markdown and --csv are two ways to print the same table; choose one")
    table = make_table(find_runs(chosen.folder), tuple(chosen.by))
    if chosen.markdown or chosen.csv:
        sys.stdout.write(markdown(table) if chosen.markdown else to_csv(table))
    else:
        print_table(table)
