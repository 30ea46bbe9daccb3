"""vitrim inspect"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
Say what a file or folder is: the weights of some library's Vision Transformer (which library, its shape, its
classes), a model that vitrim saved (methods, backbone, classes), a run, an adapter, or an exported .onnx or
.pt2 file. Nothing in it is run.
"""

EXAMPLES = """
vitrim inspect checkpoint.pth
vitrim inspect runs/flowers
vitrim inspect runs/flowers/model.safetensors --json
vitrim inspect runs/flowers/model.onnx
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=str, help="a weights file, a model file or a folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(chosen: Namespace) -> None:
    from vitrim.runs.inspecting import inspect

    rows = inspect(chosen.file)
    if chosen.json:
        sys.stdout.write(json.dumps(dict(rows)) + "\n")
        return
    width = max(len(label) for label, _ in rows)
    sys.stdout.write("".join(f"{label:<{width}}  {value}\n" for label, value in rows))
