"""The pictures a model is checked on, calibrated with and measured on when it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vitrim.data import open_data
from vitrim.data.transforms import eval_transform
from vitrim.runs.opening import data_of_run

if TYPE_CHECKING:
    from vitrim.backbones.preprocess import Preprocess
    from vitrim.data import DataSource

HELD_OUT = ("val", "test", "train")  # whose pictures a file is checked on: the first that there is


def data_for(run: object, data: str | None, root: str | Path | None) -> DataSource:
    """The data named; else the run's own; else, for a model without a run, the bundled digits."""
    if data is not None:
        return open_data(data, root)
    if isinstance(run, str | Path) and Path(run).is_dir():
        spec, place = data_of_run(run, root)
        try:
            return open_data(spec, place)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the pictures of this run cannot be read ({error}); say where real pictures for the check "
                "are with --data, such as folder:PATH or digits"
            ) from error
    return open_data("digits")


def some(source: DataSource, preprocess: Preprocess, count: int, splits: tuple[str, ...]) -> Tensor:
    """`count` pictures spread over the first of `splits` that there is: [count, C, height, width]"""
    images, _ = labelled(source, preprocess, count, splits)
    if len(images) < count:  # a small split: its pictures again
        images = images.repeat(-(-count // len(images)), 1, 1, 1)[:count]
    return images


def labelled(
    source: DataSource, preprocess: Preprocess, most: int, splits: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """At most `most` pictures spread over the first of `splits` that there is, and their labels [count]."""
    name = next((name for name in splits if name in source.splits and len(source.splits[name])), None)
    if name is None:
        raise ValueError(f"{source.spec} has no pictures in {' or '.join(splits)}")
    split = source.split(name).with_transform(eval_transform(preprocess))
    step = max(1, len(split) // most)
    pairs = [split[index] for index in range(0, len(split), step)[:most]]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])
