"""vitrim report"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
Write a page about finished runs that opens in any browser and holds everything: accuracy, costs, how learning
went, and which patches of a few test images were kept. The first run is the one that is described; the others
are compared with it.
"""

EXAMPLES = """
vitrim report runs/sparse-tuning-digits
vitrim report runs/mine runs/linear --out comparison.html
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    parser.add_argument(
        "--out",
        type=str | None,
        metavar="FILE",
        help="page to write; not given: report.html in the first folder",
    )


def run(chosen: Namespace) -> None:
    from vitrim.report import write_report

    sys.stdout.write(f"{write_report(chosen.runs, chosen.out)}\n")
