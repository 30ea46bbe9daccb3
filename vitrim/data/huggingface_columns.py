"""Which columns of a Hugging Face data set hold images and labels, and reading the images."""

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from vitrim.data.band_files import picture_bands
from vitrim.data.images import AS_RGB, ImageError, Picture, decode_image, read_image, to_rgb
from vitrim.data.source import Spec

LABELS = ("label", "labels", "fine_label", "class", "target", "category")


def image_column(spec: Spec, features: Mapping[str, Any]) -> str:
    from datasets import Image as ImageFeature

    asked = spec.options.get("image")
    found = [name for name, feature in features.items() if isinstance(feature, ImageFeature)]
    return _one(spec, "image", asked, found, features)


def label_column(spec: Spec, features: Mapping[str, Any]) -> str:
    from datasets import ClassLabel

    asked = spec.options.get("label")
    found = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    if len(found) != 1:
        found = [name for name in LABELS if name in features][:1] or found
    column = _one(spec, "label", asked, found, features)
    kind = getattr(features[column], "dtype", "list")
    if kind != "string" and not kind.startswith(("int", "uint")):
        raise ValueError(f"{spec.rest}: the column {column!r} holds {kind}, not one class per image")
    return column


def _one(spec: Spec, what: str, asked: str | None, found: list[str], features: Mapping[str, Any]) -> str:
    there = ", ".join(features)
    if asked is not None and asked not in features:
        raise ValueError(f"{spec.rest} has no column {asked!r}; it has: {there}")
    if asked is not None:
        return asked
    if len(found) != 1:
        which = f"several {what} columns ({', '.join(found)})" if found else f"no column of {what}s"
        raise ValueError(f"{spec.rest} has {which}; choose one with {what}=COLUMN of: {there}")
    return found[0]


class FromHub:
    """Reads the image "train/3", row 3 of a split."""

    def __init__(self, parts: Mapping[str, Any], column: str, called: str) -> None:
        from datasets import Image as ImageFeature

        self.parts = {name: part.select_columns([column]) for name, part in parts.items()}
        for name, part in self.parts.items():
            if isinstance(part.features[column], ImageFeature):  # undecoded: our own reader sees the file
                self.parts[name] = part.cast_column(column, ImageFeature(decode=False))
        self.column = column
        self.called = called

    def __call__(self, name: str, at_least: int | None = None, channels: int = 3) -> Picture:
        split, _, row = name.partition("/")
        stored = self.parts[split][int(row)][self.column]
        called = f"image {name} of {self.called}"
        if isinstance(stored, Image.Image):
            return to_rgb(stored, called) if channels in AS_RGB else picture_bands(stored, called)
        if isinstance(stored, str):
            return read_image(stored, at_least, channels)
        if isinstance(stored, dict) and stored.get("bytes"):
            return decode_image(io.BytesIO(stored["bytes"]), called, at_least, channels)
        if isinstance(stored, dict) and stored.get("path"):
            return read_image(stored["path"], at_least, channels)
        raise ImageError(f"{called} holds no image (column {self.column!r})")
