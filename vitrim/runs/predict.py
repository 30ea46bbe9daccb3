"""Name what is on pictures: paths in, class names and probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vitrim.data import read_image
from vitrim.data.transforms import eval_transform
from vitrim.measuring.devices import pick_device
from vitrim.network.stage import StagedViT
from vitrim.runs.kinds import KINDS
from vitrim.runs.kinds.kind import output_names
from vitrim.runs.opening import open_model

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"}


class Prediction(NamedTuple):
    path: str
    name: str
    """of the class, label or target"""
    probability: float
    """or, of a target, the value predicted"""


def predict(
    model: StagedViT | str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    top: int = 1,
    batch_size: int = 64,
    device: str | None = None,
) -> list[Prediction]:
    """The `top` most probable classes of every image, best first; a folder stands for the pictures in it. Of
    several labels, all that are at least half probable, and no fewer than `top`; of numbers, every target.
    """
    staged = model if isinstance(model, StagedViT) else open_model(model)
    if not 1 <= top <= staged.num_classes:
        raise ValueError(f"top must be between 1 and the number of classes ({staged.num_classes}), got {top}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    paths = list_pictures(images)
    place = pick_device(device)
    staged = staged.to(place).eval()
    transform = eval_transform(staged.preprocess)
    found: list[Prediction] = []
    for start in range(0, len(paths), batch_size):
        chunk = paths[start : start + batch_size]
        batch = torch.stack([transform(read_image(path)) for path in chunk])  # [B, C, height, width]
        found += _best(staged, batch.to(place), chunk, top)
    return found


@torch.inference_mode()
def _best(model: StagedViT, batch: Tensor, paths: Sequence[Path], top: int) -> list[Prediction]:
    outputs, names = model(batch), output_names(model)
    if model.task != "classify":
        answers = KINDS[model.task].answers(model, outputs).tolist()
        return [
            Prediction(str(path), name, value)
            for path, answer in zip(paths, answers, strict=True)
            for name, value in KINDS[model.task].shown(names, answer, top)
        ]
    probabilities, classes = outputs.float().softmax(1).topk(top)  # [B, top]
    return [
        Prediction(str(path), names[index], probability)
        for path, indices, shares in zip(paths, classes.tolist(), probabilities.tolist(), strict=True)
        for index, probability in zip(indices, shares, strict=True)
    ]


def list_pictures(images: str | Path | Sequence[str | Path]) -> list[Path]:
    """The image files named, with folders replaced by the pictures directly in them."""
    given = [images] if isinstance(images, (str, Path)) else list(images)
    if not given:
        raise ValueError("no images were given; name image files or a folder of them")
    paths: list[Path] = []
    for path in map(Path, given):
        if path.is_dir():
            inside = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in PICTURES)
            if not inside:
                raise FileNotFoundError(
                    f"the folder {path} holds no pictures ({', '.join(sorted(PICTURES))})"
                )
            paths += inside
        elif path.is_file():
            paths.append(path)
        else:
            raise FileNotFoundError(f"there is no image {path}")
    return paths
