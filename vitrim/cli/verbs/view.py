"""vitrim view"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
A page on this machine about a run, or two beside each other: drop a picture, move the sliders of kept tokens
and of blocks, and see which patches still have a token, what the model says and how long it takes, measured
in turn with the plain backbone. Only this machine reaches it. Ctrl-C ends it.
"""

EXAMPLES = """
vitrim view runs/flowers
vitrim view runs/flowers other=runs/flowers-tome/model.safetensors --port 9000
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="one run folder or model.safetensors file, or two; NAME=PATH gives one another name",
    )
    parser.add_argument(
        "--host", type=str, default="127.0.0.1", metavar="ADDRESS", help="of this machine: 127.0.0.1 or ::1"
    )
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="0: a free one (usually 8000)")


def run(chosen: Namespace) -> None:
    from vitrim.cli.verbs.serve import check_server, named_runs

    named = named_runs(chosen.runs)
    check_server("the page", "view")
    from vitrim.deploy.serving.server import run_server
    from vitrim.deploy.serving.settings import Serving
    from vitrim.report.viewing.application import check_viewing, view_application

    check_viewing(named, chosen.host)
    serving = Serving(host=chosen.host, port=chosen.port)
    run_server(view_application(named, serving), serving, _say)


def _say(address: str) -> None:
    sys.stdout.write(f"open {address}/view (Ctrl-C ends it)\n")
    sys.stdout.flush()
