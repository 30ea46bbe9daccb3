"""Draw the pictures of README.md: the token maps of a photograph, block by block, of EViT and of ToMe on an
ImageNet-pretrained ViT-Tiny whose weights nothing has changed.

    VITRIM_DATA=DATA python tools/draw_readme_pictures.py           # weights and photograph from that folder
    python tools/draw_readme_pictures.py --photo cat.jpg --pretrained    # weights that timm downloads
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import vitrim
from vitrim.data.transforms import eval_transform
from vitrim.report.chart import spread_evenly, to_png
from vitrim.report.explaining import guesses_of, maps_of
from vitrim.report.maps.pixels import as_pictures
from vitrim.report.maps.sheet import Panel, sheet
from vitrim.report.traced import trace
from vitrim.runs.given_images import each_image, read_found
from vitrim.writing import write_whole

BACKBONE = "vit_tiny_patch16_224"
WEIGHTS = "weights/vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
PHOTO = "photos/chelsea_cat.jpg"
METHODS = {"evit": "EViT(keep=0.7, at=(3, 6, 9))", "tome": "ToMe(r=13)"}
SHOWN = 5  # with the photograph itself
DPI = 110


def draw(method: str, photo: Path, weights: Path | None) -> bytes:
    """One row: the photograph as the model sees it, then its tokens after some of the blocks."""
    model = vitrim.compose(BACKBONE, method, pretrained=weights is None, weights=weights).eval()
    transform = eval_transform(model.preprocess)
    images = transform(read_found(next(iter(each_image(photo))), transform.at_least))[None]
    traced = trace(model, images)
    pixels = as_pictures(model, images)
    maps = maps_of(traced, pixels)[0]
    panels: list[Panel] = [(f"{traced.blocks[0].entering.shape[1]} tokens", pixels[0])]
    for place in spread_evenly(len(maps), SHOWN - 1):
        tokens = traced.blocks[maps[place].block].tokens
        panels.append((f"after block {maps[place].block}: {tokens} tokens", maps[place].picture))
    share = guesses_of(model, traced, 1)[0][0][1]
    return to_png(sheet(f"{method} on {BACKBONE}; first guess {share:.0%} sure", [panels]), DPI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photo", type=Path, help=f"not given: {PHOTO} in the folder VITRIM_DATA")
    parser.add_argument("--pretrained", action="store_true", help="let timm download the weights")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="usually docs/pictures")
    chosen = parser.parse_args()
    data = os.environ.get("VITRIM_DATA")
    if data is None and not (chosen.photo and chosen.pretrained):
        sys.exit("set VITRIM_DATA to the folder of data, or give --photo FILE and --pretrained")
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name, method in METHODS.items():
        photo = chosen.photo or Path(str(data)) / PHOTO
        weights = None if chosen.pretrained else Path(str(data)) / WEIGHTS
        write_whole(chosen.out / f"{name}.png", draw(method, photo, weights))
        print(f"{chosen.out / name}.png")


if __name__ == "__main__":
    main()
