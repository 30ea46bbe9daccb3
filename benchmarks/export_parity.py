"""Every reducer with every kind of tuner, written as ONNX, portable ONNX and pt2, run beside the model.

    python benchmarks/export_parity.py --json parity.jsonl           # a small ViT, all its weights random
    VITRIM_DATA=PATH python benchmarks/export_parity.py --json parity.jsonl --given     # and ViT-Tiny's own
    python benchmarks/export_parity.py --json parity.jsonl --table   # what was measured so far, as Markdown

A row is one `vitrim.export`: it runs the file at batches 1, 3 and 8 on twelve pictures (photographs where
VITRIM_DATA names a folder with photos/ and coco-few/, else the bundled digits) and compares its logits with
the model's. Every row is written as soon as it is known; started again, the script goes on where it stopped,
and tries rows again that failed.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from noted import note, noted
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import vitrim
from vitrim import compose, export, fit
from vitrim.deploy.check import PICTURES
from vitrim.deploy.pictures import data_for, some
from vitrim.network.model import StagedViT

SMALL = "small ViT, random"
GIVEN = "vit_tiny_patch16_224"
FILE = f"weights/{GIVEN}.augreg_in21k_ft_in1k.safetensors"
TUNERS = {
    "LoRA": "LoRA()",
    "Adapter": "Adapter()",
    "DenseAdapter": "DenseAdapter()",
    "SSF": "SSF()",
    "FisherDelta": "FisherDelta()",
    "Bi-LoRA": "LoRA(bits=1)",
}
FORMATS: dict[str, tuple[str, bool]] = {  # ending, portable
    "onnx": ("onnx", False),
    "portable": ("onnx", True),
    "pt2": ("pt2", False),
}
Row = dict[str, Any]
KEY = ("model", "reducer", "tuner", "format")


def backbone(name: str, data: Path | None) -> StagedViT:
    """Either model without methods."""
    if name == GIVEN:
        if data is None:
            raise SystemExit(f"--given needs VITRIM_DATA, a folder with {FILE}")
        return compose(GIVEN, weights=data / FILE)
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=64, patch_size=8, embed_dim=48, depth=6, num_heads=3, num_classes=10, init_values=1e-5
    )
    return compose(awake(vit, 1.0))


def awake(model: nn.Module, noise: float, only: set[str] | None = None) -> nn.Module:
    """Weights away from their zeros and ones, so that a part that is left out shows."""
    for name, value in model.named_parameters():
        if only is None or name in only:
            around = 1.0 if value.ndim < 2 and not name.endswith("bias") else 0.0
            start = around if only is None else value.detach()
            spread = noise / max(1, value[0].numel() if value.ndim > 1 else 100) ** 0.5
            value.data = start + spread * torch.randn_like(value)
    return model


def composed(name: str, reducer: str, tuner: str, folder: str | None, data: Path | None) -> StagedViT:
    """The composition with everything that trains away from its start, and what has to be chosen chosen."""
    plain = backbone(name, data)
    methods = [vitrim.REDUCERS[reducer].example(plain), TUNERS[tuner]]
    model = compose(plain.vit, *methods)
    torch.manual_seed(1)
    if tuner == "FisherDelta":
        pictures = some(data_for(model, folder, None), model.preprocess, PICTURES, ("val",))
        fit(model, [(pictures, torch.arange(PICTURES) % model.num_classes)])
    head = {f"vit.head.{part}" for part in ("weight", "bias")}
    awake(model, 0.5, set(model.trained()) - head)
    return model.eval()


def measured(model: StagedViT, written: str, folder: str | None) -> Row:
    """One export, as the figures of its own check."""
    ending, portable = FORMATS[written]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        try:
            done = export(model, Path(place) / f"model.{ending}", portable=portable, data=folder)
        except ValueError as refusal:
            return {"refused": str(refusal)}
        except Exception as error:  # written down, and tried again by the next start
            return {"failed": f"{type(error).__name__}: {error}"}
    check = {**done.agreement.to_json(), "pictures": "photographs" if folder else "digits"}
    seconds = round(time.perf_counter() - start, 1)
    return {**check, "megabytes": round(done.megabytes, 3), "seconds": seconds}


def photographs(data: Path | None, place: Path) -> str | None:
    """A data spec of links to the given photographs; None without any: the bundled digits."""
    if data is None:
        return None
    for kind, files in (("photos", data / "photos"), ("coco", data / "coco-few" / "images")):
        found = sorted(files.glob("*.jpg"))
        kept = 8 if kind == "photos" else PICTURES - 8
        for split in ("train", "val"):
            (place / split / kind).mkdir(parents=True)
            for file in found[:kept]:
                (place / split / kind / file.name).symlink_to(file.resolve())
    return f"folder:{place}"


def known(file: Path) -> list[Row]:
    """The rows there are; what failed is measured again."""
    return [row for row in noted(file) if "failed" not in row]


def asked(models: list[str]) -> Iterator[tuple[str, str, str]]:
    for model in models:
        for reducer in vitrim.REDUCERS:
            for tuner in TUNERS:
                yield model, reducer, tuner


def table(rows: list[Row]) -> str:
    """By reducer and tuner: the largest relative difference of each format."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        lines += [f"\n{model}\n", f"| reducer | tuner | {' | '.join(FORMATS)} | same class |"]
        lines += ["| --- | --- |" + " ---: |" * (len(FORMATS) + 1)]
        for _, reducer, tuner in asked([model]):
            found = {r["format"]: r for r in rows if [r[k] for k in KEY[:3]] == [model, reducer, tuner]}
            if not found:
                continue
            cells = [in_words(found.get(each)) for each in FORMATS]
            same = [tuple(row["same_class"]) for row in found.values() if "same_class" in row]
            shared = f"{sum(a for a, _ in same)} of {sum(b for _, b in same)}" if same else ""
            lines.append(f"| {reducer} | {tuner} | {' | '.join(cells)} | {shared} |")
    return "\n".join(lines)


def in_words(row: Row | None) -> str:
    if row is None:
        return ""
    return "refused" if "refused" in row else f"{row['largest_difference'] / row['largest_logit']:.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="rows, one a line; those there are kept")
    parser.add_argument("--given", action="store_true", help="also ViT-Tiny with the weights in VITRIM_DATA")
    parser.add_argument("--table", action="store_true", help="print what is in the file and end")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.table:
        print(table(known(chosen.json)))
        return
    torch.set_num_threads(chosen.threads)
    data = Path(os.environ["VITRIM_DATA"]) if "VITRIM_DATA" in os.environ else None
    done = {tuple(row[name] for name in KEY) for row in known(chosen.json)}
    with tempfile.TemporaryDirectory() as place:
        folder = photographs(data, Path(place))
        for key in asked([SMALL, *([GIVEN] if chosen.given else [])]):
            missing = [each for each in FORMATS if (*key, each) not in done]
            model = composed(*key, folder, data) if missing else None
            for each in missing:
                row = {**dict(zip(KEY, (*key, each), strict=True)), **measured(model, each, folder)}
                note(chosen.json, row)
                print(*key, each, in_words(row) if "failed" not in row else row["failed"], flush=True)


if __name__ == "__main__":
    main()
