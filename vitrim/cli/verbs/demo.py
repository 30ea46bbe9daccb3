"""vitrim demo"""

from __future__ import annotations

import sys
from dataclasses import astuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
See what vitrim does, in a few minutes on a small CPU machine and without any download: fine-tune the bundled
backbone on the bundled handwritten digits with the recipe sparse-tuning, compare it with linear probing and
with the full cost of the plain backbone, measure speed, and write everything to a folder with a report to
open in a browser.
"""

EXAMPLES = """
vitrim demo
vitrim demo --out my-demo
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=str | None, metavar="FOLDER", help="folder to make; not given: vitrim-demo"
    )
    parser.add_argument("--quiet", action="store_true", help="print the result alone")


def run(chosen: Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from vitrim.cli.demo import demo
    from vitrim.report.summary import HEADINGS, in_words, rows
    from vitrim.runs.folder import RunFolder
    from vitrim.runs.tested import read_tested

    def say(line: str) -> None:
        if not chosen.quiet:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    shown = demo(chosen.out, say, chosen.quiet)
    runs = (shown.tuned, shown.probe)
    records = [RunFolder(finished.folder).record() for finished in runs]
    tested = [read_tested(finished.folder) for finished in runs]
    table = Table(*astuple(HEADINGS), box=None, pad_edge=False)
    for row in rows(records):
        table.add_row(*astuple(row))
    Console().print(table)
    sys.stdout.write(
        "file: on disk, for each task; GMACs: billion multiply-adds for an image; time: plain backbone = 1\n"
    )
    sys.stdout.write("\n" + "\n".join(in_words(records, tested)) + "\n\n")
    sys.stdout.write(f"Everything is in {shown.folder}; open {shown.report} in a browser.\n")
    sys.stdout.write(f"Use the model:  vitrim predict {shown.tuned.folder} PICTURE.png\n")
