"""vitrim export"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
Write a trained model as a file that other programs run: ONNX, or a program for torch.export.load. It is run
on real pictures and compared with the model before it gets its name; the figures lie beside it.
"""

EXAMPLES = """
vitrim export runs/flowers --to onnx
vitrim export runs/flowers --to onnx --precision int8 --max_drop 0.5
vitrim export runs/flowers --to pt2 --raw --out flowers.pt2
vitrim evaluate flowers.onnx --data folder:flowers
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or a model.safetensors file")
    parser.add_argument("--to", type=str, default="onnx", metavar="{onnx,pt2}", help="kind of file")
    parser.add_argument("--out", type=str | None, metavar="FILE", help="not given: RUN/model.onnx or .pt2")
    parser.add_argument(
        "--precision",
        type=str,
        default="fp32",
        metavar="{fp32,fp16,bf16,int8}",
        help="number format: fp32, fp16, bf16 (pt2 only) or int8 (onnx only)",
    )
    parser.add_argument(
        "--portable",
        action="store_true",
        help="matrix products instead of scatters: for engines without them",
    )
    parser.add_argument(
        "--raw", action="store_true", help="take pixels from 0 to 255 instead of normalised images"
    )
    parser.add_argument(
        "--aot", action="store_true", help="compile a pt2 file to machine code (C++ compiler)"
    )
    parser.add_argument(
        "--max_drop",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="accuracy that int8 may lose (usually 1)",
    )
    parser.add_argument(
        "--data", type=str | None, metavar="SPEC", help="pictures for the check, if not the run's"
    )
    parser.add_argument("--root", type=str | None, metavar="PATH", help="where that data lies")


def run(chosen: Namespace) -> None:
    from pathlib import Path

    from vitrim.checks import check_one_of
    from vitrim.deploy.export import export

    check_one_of("export", "to", chosen.to, ("onnx", "pt2"))
    place = Path(chosen.run)
    folder = place if place.is_dir() else place.parent
    out = Path(chosen.out) if chosen.out is not None else folder / f"model.{chosen.to}"
    if out.suffix != f".{chosen.to}":
        raise ValueError(f"--to {chosen.to} writes a file that ends in .{chosen.to}, got --out {out}")
    done = export(
        chosen.run,
        out,
        precision=chosen.precision,
        portable=chosen.portable,
        raw=chosen.raw,
        aot=chosen.aot,
        max_drop=chosen.max_drop,
        data=chosen.data,
        root=chosen.root,
    )
    opset = f", opset {done.about['opset']}" if "opset" in done.about else ""
    sys.stdout.write(f"{done.path}: {done.megabytes:.2f} MB, {chosen.precision}{opset}, any batch size\n")
    sys.stdout.write(f"checked: {done.agreement.in_words()}\n")
    if done.accuracy is not None:
        sys.stdout.write("accuracy: {:.2f} % in float32, {:.2f} % in int8\n".format(*done.accuracy))
