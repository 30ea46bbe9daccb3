"""Mean and standard deviation of every channel, for images that no backbone was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitrim.backbones.preprocess import Preprocess, as_asked
from vitrim.data import DataSource
from vitrim.data.images import ChannelsError, ImageError
from vitrim.data.transforms import eval_transform, train_transform
from vitrim.runs.batches import ordered_batches, own_randomness, tolerant_images
from vitrim.settings.training import Training


def told(
    preprocess: Preprocess, source: DataSource, training: Training, known: Mapping[str, Any] | None
) -> Preprocess:
    """What a run does with images: as its settings say, measured where they ask for that; `known` is the
    record of a run that goes on, which has measured.
    """
    asked = as_asked(
        preprocess, training.normalise, training.interpolation, training.test_crop, training.full_scale
    )
    check_channels(asked, source, training)
    if training.normalise == "given":
        mean, std = (_given(name, training, asked.channels) for name in ("mean", "std"))
        return replace(asked, mean=mean, std=std)
    if training.normalise != "measured":
        return asked
    before = {} if known is None else known["preprocess"]
    if before.get("mean") and before.get("std"):
        return replace(asked, mean=tuple(before["mean"]), std=tuple(before["std"]))
    mean, std = measured(asked, source, training)
    return replace(asked, mean=mean, std=std)


def check_channels(asked: Preprocess, source: DataSource, training: Training) -> None:
    """Refuse training images of other channels than the model takes, by the first of them that can be read:
    as unreadable ones they would be replaced by others.
    """
    images = source.split(training.train_split).with_transform(
        train_transform(asked, training.augment, training.policy, training.colour_jitter)
    )
    for index in range(min(len(images), training.bad_images + 1)):
        try:
            with own_randomness(training.seed):
                images[index]
        except ChannelsError:
            raise
        except ImageError:  # which is counted, and replaced, where it is met in training
            continue
        return


def measured(
    asked: Preprocess, source: DataSource, training: Training
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of every channel over the training images, as the model sees them: resized, 0 to 1."""
    count = asked.channels
    plain = replace(asked, mean=(0.0,) * count, std=(1.0,) * count)
    images = tolerant_images(source, training, eval_transform(plain))
    pixels, sums = 0, torch.zeros(2, count, dtype=torch.float64)
    with own_randomness(training.seed):  # a run that goes on does not measure, and draws the same
        for batch, _ in ordered_batches(images, training.batch_size, training.workers):
            pixels += batch.numel() // count
            sums += _sums(batch)
    mean = sums[0] / pixels
    std = (sums[1] / pixels - mean**2).clamp(min=0).sqrt()
    constant = [channel for channel, value in enumerate(std.tolist()) if value < 1e-6]
    if constant:
        raise ValueError(
            f"channel {constant[0]} (from 0) of the training images is constant, so it has no standard "
            "deviation to divide by; leave it out of the files, or give mean and std with normalise=given"
        )
    return tuple(mean.tolist()), tuple(std.tolist())


def _sums(batch: Tensor) -> Tensor:
    """Of the values and their squares, by channel: [B, C, height, width] -> [2, C]"""
    values = batch.double().transpose(0, 1).flatten(1)
    return torch.stack([values.sum(1), values.square().sum(1)])


def _given(name: str, training: Training, channels: int) -> tuple[float, ...]:
    values = getattr(training, name)
    if len(values) not in (1, channels):
        raise ValueError(f"{name} has {len(values)} values, but the model takes {channels} channels")
    return tuple(values) * (channels if len(values) == 1 else 1)
