"""Pictures of a coloured shape in a place, with captions that say so: the toy of retrieval."""

import itertools
import json
from pathlib import Path

from PIL import Image, ImageDraw

SHAPES, COLOURS = ("square", "disc"), ("red", "green", "blue", "white")
PLACES = {"left": (2, 14), "right": (26, 14), "top": (14, 2), "bottom": (14, 26)}


def write_captions(folder: Path, count: int = 20) -> Path:
    """`count` pictures of 48 pixels and a captions.json of BLIP's form; the same pictures train and test."""
    (folder / "images").mkdir(parents=True)
    entries = []
    for number, (place, colour, shape) in enumerate(itertools.islice(_all(), count)):
        name = f"{number:02d}.png"
        picture = Image.new("RGB", (48, 48), "black")
        x, y = PLACES[place]
        draw = ImageDraw.Draw(picture)
        (draw.rectangle if shape == "square" else draw.ellipse)((x, y, x + 19, y + 19), fill=colour)
        picture.save(folder / "images" / name)
        captions = [f"A {colour} {shape} at the {place}.", f"at the {place} there is a {shape}, {colour}"]
        split = ("train", "train", "train", "val", "test")[number % 5]
        entries.append({"image": name, "caption": captions, "split": split})
    (folder / "captions.json").write_text(json.dumps(entries))
    return folder / "captions.json"


def _all() -> "itertools.product[tuple[str, str, str]]":
    return itertools.product(PLACES, COLOURS, SHAPES)
