"""What reduction costs where pixels are told apart: real frames with the mask of the moving object (DAVIS),
split by sequence, so that the objects of the test pictures are unseen.

    VITRIM_DATA=FOLDER python benchmarks/segmentation.py --out segmentation --every 8 --epochs 6 \
        [--only plain evit tome ...] [--parts runs restore words] [--seeds 0 1 2]

Reads FOLDER/davis and FOLDER/weights/vit_tiny...safetensors. Writes OUT/results.jsonl, a line for each
figure; what is in it already is not measured again, so a stopped benchmark goes on.

Parts: `runs` trains a linear decoder with each composition and measures it beside the same weights without
reduction; `restore` takes the frozen backbone alone and says how far restored maps are from unreduced ones,
by mode and by the first block that reduces; `words` tells every cell by the backbone's own 1,000 classes,
reduced against unreduced. What its trained models say under other modes and depths, and the time and memory
of a window: segmentation_reduced.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from noted import note, noted

import vitrim
from vitrim.dense.adapting import without_reducers
from vitrim.dense.metrics import Scores
from vitrim.dense.model import DenseModel
from vitrim.dense.openvocab import OpenVocabulary
from vitrim.dense.restoring import RESTORE, unreduced_error
from vitrim.dense.spec import open_dense_data
from vitrim.dense.training import train_dense
from vitrim.dense.transforms import JointChange
from vitrim.dense.vocabulary import Vocabulary

MODEL = "vit_tiny_patch16_224"
SPLITS = {
    "train": ("bmx-trees", "car-roundabout", "cows", "dog", "kite-surf", "parkour", "scooter-black"),
    "val": ("car-shadow",),
    "test": ("blackswan", "drift-chicane", "goat", "paragliding-launch"),
}
COMPOSITIONS = {
    "plain": [],
    "lora": ["LoRA(rank=8)"],
    "dense adapter": ["DenseAdapter(width=8)"],
    "evit": ["EViT(keep=0.7, at=(3, 6, 9))"],
    "evit late": ["EViT(keep=0.7, at=(6, 9))"],
    "tome": ["ToMe(r=8)"],
    "bipartite": ["Bipartite(at=(6,))"],
    "lora + evit": ["LoRA(rank=8)", "EViT(keep=0.7, at=(3, 6, 9))"],
    "lora + tome": ["LoRA(rank=8)", "ToMe(r=8)"],
}
REDUCERS = ("evit", "evit late", "tome", "bipartite")
WORDS = {  # ImageNet's numbers of what the sequences show, and of what lies around
    "bird": tuple(range(80, 101)), "dog": tuple(range(151, 269)), "cattle and goats": tuple(range(345, 354)),
    "vehicle": (407, 436, 468, 511, 609, 627, 656, 670, 671, 717, 751, 817, 864), "water and shore":
    (975, 977, 978, 976), "plants": (984, 985, 988, 990), "sky and mountain": (970, 979, 980),
}  # fmt: skip


class Book:
    """results.jsonl: a line for each figure, by name."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known = {line["name"] for line in noted(file)}

    def measure(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        if name in self.known:
            return
        started = time.perf_counter()
        row = {"name": name, **work(), "seconds": round(time.perf_counter() - started, 1)}
        note(self.file, row)
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


def given() -> tuple[Path, Path]:
    """The folder of the data, and the file of the weights in it."""
    folder = os.environ.get("VITRIM_DATA")
    if folder is None:
        raise SystemExit("set VITRIM_DATA to the folder with davis/ and weights/")
    data = Path(folder)
    return data, next((data / "weights").glob(f"{MODEL}*.safetensors"))


def thinned(data: Path, out: Path, every: int) -> str:
    """A spec of every n-th frame of each sequence, in lists of names."""
    lists = out / "splits"
    lists.mkdir(parents=True, exist_ok=True)
    for split, sequences in SPLITS.items():
        names = [
            f"{sequence}/{frame.stem}"
            for sequence in sequences
            for frame in sorted((data / "davis" / "frames" / sequence).glob("*.jpg"))[::every]
        ]
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
    return f"seg:{data / 'davis'}?images=frames&classes=ground,object&splits={lists.resolve()}"


def run_folder(out: Path, name: str, seed: int = 0) -> Path:
    return out / "runs" / (name.replace(" ", "-") + (f"-seed-{seed}" if seed else ""))


def run(name: str, spec: str, weights: Path, out: Path, epochs: int, seed: int) -> dict[str, Any]:
    """Train and measure one composition."""
    place = run_folder(out, name, seed)
    record = place / "run.json"
    training = {"epochs": epochs, "batch_size": 8, "lr": 2e-3, "augment": "flip", "seed": seed}
    if not record.exists():
        composition, _, mode = name.partition(" by ")
        train_dense(
            MODEL, spec, methods=COMPOSITIONS[composition], out=place, weights=weights, training=training,
            restore=mode or "delta", quiet=True,
        )  # fmt: skip
    elif json.loads(record.read_text())["status"] != "finished":
        train_dense(out=place, resume=True, quiet=True)
    told = json.loads(record.read_text())
    results = {
        key: value for key, value in told["results"].items() if key not in ("per_region", "split", "mark")
    }
    return {**results, "gmacs": told["costs"]["gmacs"], "trained": told["costs"]["trained_parameters"]}


def pictures(spec: str, model: vitrim.compose, most: int) -> Iterator[torch.Tensor]:
    split = open_dense_data(spec).split("test")
    change = JointChange(model.preprocess, "fit")
    for place in range(0, len(split), max(1, len(split) // most)):
        yield change(*split[place])[0][None]


@torch.no_grad()
def restored(methods: list[str], spec: str, weights: Path, most: int = 12) -> dict[str, Any]:
    """How far the last map is from that of the frozen backbone unreduced, by mode."""
    whole = DenseModel(MODEL, classes=2, weights=weights).eval()
    found: dict[str, Any] = {}
    for mode in RESTORE[:4]:
        reduced = DenseModel(MODEL, *methods, classes=2, weights=weights).eval()
        reduced.restore = mode
        try:
            errors = [
                unreduced_error(reduced.maps(image)[-1], whole.maps(image)[-1])
                for image in pictures(spec, whole.staged, most)
            ]
        except ValueError:  # fuse_last with methods that merge
            found[mode] = None
            continue
        found[mode] = round(sum(errors) / len(errors), 4)
    return found


@torch.no_grad()
def words(methods: list[str], proxied: bool, restore: str, spec: str, weights: Path) -> dict[str, Any]:
    """How many cells of reduced pictures are told the same of the backbone's own classes."""
    clip = vitrim.compose(MODEL, *methods, weights=weights).eval()
    reduced = OpenVocabulary(
        clip, vocabulary=Vocabulary.of_classifier(clip, WORDS), proxied=proxied, restore=restore
    )
    whole, scores = without_reducers(reduced), Scores(len(WORDS), boundary=False)
    for image in pictures(spec, clip, 16):
        theirs = whole.segment(image)[0]
        scores.update(theirs, reduced.segment(image)[0])
    found = scores.metrics(tuple(WORDS))
    return {"alike": found.aacc, "miou_against_unreduced": found.miou, "protocol": reduced.protocol}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=8, help="take every n-th frame")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="of the runs")
    parser.add_argument(
        "--only",
        nargs="*",
        default=list(COMPOSITIONS),
        help="such as evit, or 'evit by knn'",
    )
    parser.add_argument("--parts", nargs="*", default=["restore", "words", "runs"])
    asked = parser.parse_args()
    data, weights = given()
    spec, book = thinned(data, asked.out, asked.every), Book(asked.out / "results.jsonl")
    if "restore" in asked.parts:
        for name in REDUCERS:
            book.measure(f"restore {name}", lambda name=name: restored(COMPOSITIONS[name], spec, weights))
        for first in (0, 2, 4, 6, 8, 10):
            method = f"EViT(keep=0.7, at=({first},))"
            book.measure(f"restore from block {first}", lambda m=method: restored([m], spec, weights))
    if "words" in asked.parts:
        for name in ("evit", "tome"):
            for proxied in (False, True):
                for mode in ("delta", "copy", "knn"):
                    book.measure(
                        f"words {name} {'proxied' if proxied else 'plain'} {mode}",
                        lambda n=name, p=proxied, m=mode: words(COMPOSITIONS[n], p, m, spec, weights),
                    )
    if "runs" in asked.parts:
        for seed in asked.seeds:
            for name in asked.only:
                book.measure(
                    f"run {name}" + (f" seed {seed}" if seed else ""),
                    lambda n=name, s=seed: run(n, spec, weights, asked.out, asked.epochs, s),
                )


if __name__ == "__main__":
    main()
