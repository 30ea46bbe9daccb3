"""Which learning rate a short run wants, recipe by recipe: what `lr="auto"` was fitted to and is checked by.

    python benchmarks/learning_rates.py --root DATA/vtab-1k --model CHECKPOINT --out FOLDER

Trains every recipe on some training images of every task at every rate, and at the rate that vitrim chooses
by itself, and prints the test accuracy of each. Finished runs in FOLDER are not repeated, stopped ones go on.
"""

from __future__ import annotations

import argparse
import datetime
import random
import shlex
import sys
from pathlib import Path

import torch

import vitrim
from vitrim.data import DataSource, open_data
from vitrim.data.source import Split
from vitrim.measuring.machine import machine
from vitrim.runs.folder import RunFolder

RECIPES = ("linear", "lora", "sparse-tuning", "adaptformer", "fpet-lora")
TASKS = ("vtab:eurosat", "vtab:dsprites_loc", "vtab:dsprites_ori")


def main() -> None:
    """Run what is missing and print the table."""
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    here = machine()
    print(f"{here['cpu']}, {here['threads']} of {here['cpus']} CPUs used; {datetime.date.today()}")
    print(f"`python {shlex.join(sys.argv)}`\n")
    columns = [f"{rate:g}" for rate in chosen.rates] + ["auto"] * chosen.auto
    print(f"| task, {chosen.epochs} epochs | recipe | {' | '.join(columns)} |")
    print(f"| --- | --- | {' | '.join(['---:'] * len(columns))} |")
    for task in chosen.tasks:
        source = some_images(open_data(task, root=chosen.root), chosen.images, chosen.tested)
        for recipe in chosen.recipes:
            cells = [run(chosen, source, recipe, rate) for rate in rates(chosen)]
            print(f"| {task} | {recipe} | {' | '.join(cells)} |", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the VTAB-1k tasks")
    parser.add_argument("--model", required=True, help="a timm name or a checkpoint file")
    parser.add_argument("--out", required=True, help="folder of the runs")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--rates", nargs="*", type=float, default=[1e-3, 3e-3, 1e-2, 3e-2])
    parser.add_argument("--auto", action="store_true", help="the rate that is chosen where none is given too")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=400, help="training images of a task")
    parser.add_argument("--tested", type=int, default=500, help="test images of a task")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def rates(chosen: argparse.Namespace) -> list[float | None]:
    """The rates of a row; None stands for the one that is chosen by itself."""
    return [*chosen.rates, *([None] if chosen.auto else [])]


def some_images(source: DataSource, images: int, tested: int) -> DataSource:
    """The same task with fewer images, always the same ones, and nothing held out."""
    splits = {"train": part(source.split("train"), images), "test": part(source.split("test"), tested)}
    return DataSource(source.spec, source.classes, splits)


def part(split: Split, count: int) -> Split:
    kept = sorted(random.Random(0).sample(range(len(split)), min(count, len(split))))
    return Split(split.read, [split.names[i] for i in kept], [split.labels[i] for i in kept])


def run(chosen: argparse.Namespace, source: DataSource, recipe: str, rate: float | None) -> str:
    """The cell of one run: test accuracy, and the rate where vitrim chose it."""
    name = "auto" if rate is None else f"{rate:g}"
    training = {"epochs": chosen.epochs, "batch_size": chosen.batch, "select": "last", "workers": 0}
    folder = RunFolder(
        Path(chosen.out) / source.spec.replace(":", "-") / recipe / f"{chosen.epochs}-epochs-lr-{name}"
    )
    begun = folder.record_file.is_file()
    if not begun or folder.record()["status"] != "finished":
        vitrim.train(
            model=chosen.model,
            data=source,
            root=chosen.root,
            recipe=recipe,
            training=training if rate is None else training | {"lr": rate},
            image_size=chosen.image_size,
            out=folder.path,
            resume=begun,
            quiet=True,
        )
    record = folder.record()
    accuracy = f"{100 * record['results']['top1']:.1f}"
    return accuracy if rate is not None else f"{accuracy} (lr {record['settings']['training']['lr']:.1e})"


if __name__ == "__main__":
    main()
