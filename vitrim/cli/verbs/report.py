"""vitrim report"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
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
vitrim report runs/* --measure --charts charts --out comparison.html
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs, or of a sweep")
    parser.add_argument(
        "--out",
        type=str | None,
        metavar="FILE",
        help="page to write; not given: report.html in the first folder",
    )
    parser.add_argument(
        "--charts",
        type=str | None,
        metavar="FOLDER",
        help="write every chart there, as PNG, CSV and JSON",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure the time of one image and the memory of a training step of every run now, and set "
        "accuracy against them",
    )
    parser.add_argument(
        "--data", type=str | None, metavar="SPEC", help="the first run's pictures, if they have moved"
    )
    parser.add_argument("--root", type=str | None, metavar="PATH", help="where that data lies")


def run(chosen: Namespace) -> None:
    from vitrim.report import write_report
    from vitrim.report.segmentation import is_of_masks, write_mask_report

    runs = runs_in(chosen.runs)
    if is_of_masks(runs):
        page = write_mask_report(
            runs, chosen.out, data=chosen.data, root=chosen.root, charts_folder=chosen.charts
        )
    else:
        page = write_report(
            runs, chosen.out, data=chosen.data, root=chosen.root, charts_folder=chosen.charts,
            measure=chosen.measure,
        )  # fmt: skip
    sys.stdout.write(f"{page}\n")


def runs_in(folders: Sequence[str]) -> list[str]:
    """The folders given, with the folder of a sweep replaced by its finished runs."""
    from vitrim.sweep.found import find_runs

    found: list[str] = []
    for folder in map(Path, folders):
        if (folder / "sweep.json").is_file():
            rows = [run.row for run in find_runs(folder)]
            found += [str(row["folder"]) for row in rows if row["status"] == "finished"]
        else:
            found.append(str(folder))
    if not found:
        raise ValueError(f"no run of {', '.join(folders)} is finished yet; the same sweep command goes on")
    return found
