"""vitrim export"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
Write a trained model as a file that other programs run: ONNX, or a program for torch.export.load; or, where
all of it folds (LoRA, SSF, BitFit and others, without reducers), as plain weights for timm, torchvision or
transformers. It is run on real pictures, by the other library where there is one, and compared with the model
before it gets its name; the figures lie beside it.
"""

EXAMPLES = """
vitrim export runs/flowers --to onnx
vitrim export runs/flowers --to onnx --precision int8 --max_drop 0.5
vitrim export runs/flowers --to pt2 --raw --out flowers.pt2
vitrim export runs/flowers --to timm
vitrim export runs/flowers --to transformers --out flowers-for-transformers
vitrim evaluate flowers.onnx --data folder:flowers
"""

NAMES = {
    "onnx": "model.onnx",
    "pt2": "model.pt2",
    "timm": "timm.safetensors",
    "torchvision": "torchvision.safetensors",
    "transformers": "transformers",
}


def options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or a model.safetensors file")
    parser.add_argument(
        "--to",
        type=str,
        default="onnx",
        metavar="{onnx,pt2,timm,torchvision,transformers}",
        help="kind of file, or whose plain weights",
    )
    parser.add_argument(
        "--out",
        type=str | None,
        metavar="FILE",
        help="not given: RUN/model.onnx, model.pt2, timm.safetensors, torchvision.safetensors, or the folder "
        "RUN/transformers",
    )
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
        "--fixed",
        action="store_true",
        help="where images keep their own number of tokens: the same number for all, their mean",
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
    from vitrim.network.budgeting import fixed
    from vitrim.runs.opening import data_of_run, open_model

    check_one_of("export", "to", chosen.to, tuple(NAMES))
    place = Path(chosen.run)
    folder = place if place.is_dir() else place.parent
    out = Path(chosen.out) if chosen.out is not None else folder / NAMES[chosen.to]
    data, root = chosen.data, chosen.root
    if chosen.fixed and data is None and place.is_dir():
        data, root = data_of_run(chosen.run, root)
    if chosen.aot:
        sys.stderr.write("Compiling to machine code, which takes a minute or more.\n")
    done = export(
        fixed(open_model(chosen.run)) if chosen.fixed else chosen.run,
        out,
        to=chosen.to,
        precision=chosen.precision,
        portable=chosen.portable,
        raw=chosen.raw,
        aot=chosen.aot,
        max_drop=chosen.max_drop,
        data=data,
        root=root,
    )
    sys.stdout.write(f"{done.path}: {done.megabytes:.2f} MB, {_kind(done.about)}\n")
    sys.stdout.write(f"checked: {done.agreement.in_words()}\n")
    if done.accuracy is not None:
        sys.stdout.write("accuracy: {:.2f} % in float32, {:.2f} % in int8\n".format(*done.accuracy))


def _kind(about: dict[str, Any]) -> str:
    """What was written, in a few words."""
    if "open_with" in about:
        return f"open it with {about['open_with']}"
    opset = f", opset {about['opset']}" if "opset" in about else ""
    return f"{about['precision']}{opset}, any batch size"
