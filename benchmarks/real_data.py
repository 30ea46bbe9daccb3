"""A dozen tuners on a real task, with one budget for all: accuracy, what trains, time.

    python benchmarks/real_data.py --data vtab:eurosat --root DATA/vtab-1k --model CHECKPOINT --epochs 4

Trains every row on the task's 1,000 images (split trainval) with the same settings and measures on its test
split, weights of the last epoch. No row is tuned, so the order of two close rows says little. Prints a
Markdown table with machine, date and command.
"""

import argparse
import datetime
import shlex
import sys
import tempfile
from pathlib import Path

import torch

import vitrim
from vitrim.measuring.machine import machine
from vitrim.runs.folder import RunFolder

ROWS: dict[str, tuple[str, ...]] = {
    "linear": ("Linear()",),
    "BitFit": ("BitFit()",),
    "LayerNorm": ("LayerNormTuning()",),
    "SSF": ("SSF()",),
    "LoRA 8": ("LoRA(rank=8)",),
    "1-bit LoRA 32": ("LoRA(rank=32, bits=1)",),
    "AdaptFormer 8": ("Adapter(width=8)",),
    "Houlsby 8": ("Adapter(width=8, beside=('attention', 'mlp'), form='sequential')",),
    "dense adapter 8": ("DenseAdapter(width=8)",),
    "RepAdapter 8": ("RepAdapter(width=8)",),
    "FacT-TT 16": ("FacT(rank=16)",),
    "Convpass 8": ("Convpass(width=8)",),
    "VPT-deep 8": ("VPT(prompts=8)",),
    "full": ("Full()",),
}


def main() -> None:
    """Train every row and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="vtab:eurosat")
    parser.add_argument("--root", required=True, help="folder of the VTAB-1k tasks")
    parser.add_argument("--model", required=True, help="a timm name or a checkpoint file")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    here = machine()
    print(f"{here['cpu']}, {here['threads']} of {here['cpus']} CPUs used; {datetime.date.today()}")
    print(f"`python {shlex.join(sys.argv)}`\n")
    print("| tuner | top-1 | trained without head | GMACs | seconds per epoch |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in chosen.rows:
        print(row(name, chosen), flush=True)


def row(name: str, chosen: argparse.Namespace) -> str:
    """One line of the table, from a run in a temporary folder."""
    training = {
        "epochs": chosen.epochs,
        "lr": chosen.lr,
        "batch_size": chosen.batch,
        "train_split": "trainval",
        "workers": 0,
    }
    with tempfile.TemporaryDirectory() as folder:
        run = vitrim.train(
            model=chosen.model,
            data=chosen.data,
            root=chosen.root,
            methods=list(ROWS[name]),
            training=training,
            image_size=chosen.image_size,
            out=Path(folder) / "run",
            quiet=True,
        )
        history = RunFolder(run.folder).history()
    counted = vitrim.costs(run.model)
    seconds = sum(epoch["seconds"] for epoch in history) / len(history)
    trained = counted.trained - counted.trained_head
    return f"| {name} | {100 * run.metrics.top1:.2f} % | {trained:,} | {counted.gmacs:.4f} | {seconds:.1f} |"


if __name__ == "__main__":
    main()
