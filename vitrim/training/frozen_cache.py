"""`cache_frozen`: what the frozen blocks say of every image, computed once and kept in the run folder.

One file for each split, mapped into memory, whole or absent. Its key names all that its content depends on:
frozen weights, methods, images, transform, precision, batch size, versions. So a run that was killed goes on
with the same file, makes the same bytes again where it was not whole, and never reads another run's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vitrim.measuring.machine import versions
from vitrim.network.frozen import FrozenBlocks, HeadAlone, Kept, LaterBlocks, whole_batch
from vitrim.network.model import StagedViT
from vitrim.runs.batches import Batches, ordered_batches
from vitrim.runs.folder import RunFolder
from vitrim.runs.kept_tensors import bytes_of, check_room, read_rows, write_rows
from vitrim.runs.tested import digest_of
from vitrim.training.cache_checks import BEGIN, OR_WITHOUT, check_cached_blocks
from vitrim.training.frozen_features import FrozenFeatures, classifier_alone_trains, same_in_training
from vitrim.training.kept_batches import Rows, kept_batches
from vitrim.training.prepared import Task

if TYPE_CHECKING:
    from accelerate import Accelerator

FORMAT = 1
LABELS = "labels"

Encode = Callable[[Tensor], Kept]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Frozen:
    """A model cut in two: what is computed once, by so many blocks, and what is left."""

    encode: Encode
    rest: HeadAlone | LaterBlocks
    blocks: int
    kind: str


def cut(model: StagedViT, images: Tensor) -> Frozen:
    """Before the first part that trains; `images` are some to try."""
    count = check_cached_blocks(model)
    if classifier_alone_trains(model):
        if not same_in_training(model, images):
            raise ValueError(f"{BEGIN} what the classifier reads is drawn at random; leave cache_frozen out")
        return Frozen(
            lambda some: {"features": model.read_by_head(some)}, HeadAlone(model), count, "features"
        )
    blocks = FrozenBlocks(model, count)
    if not whole_batch(blocks.state(images)[0]):
        raise ValueError(
            f"{BEGIN} a method in the first {count} blocks adds to the loss, or notes something about whole "
            f"batches; name a block from {count} on, {OR_WITHOUT}"
        )
    return Frozen(blocks, blocks.rest(), count, "blocks")


def keep_frozen(task: Task, folder: RunFolder, accelerator: Accelerator, say: Say) -> FrozenFeatures | str:
    """Compute what the frozen blocks say of training and validation images, or take it from a file of this
    very run; or why nobody needs it."""
    if len(folder.history()) >= task.training.all_epochs:
        return "no epoch is left to train"
    began = time.perf_counter()
    model, training = task.model.to(accelerator.device), task.training
    sets = _splits(task)
    pictures = next(iter(sets["train"][1]))[0].to(accelerator.device)
    found = cut(model, pictures[:2])
    folder.frozen.mkdir(exist_ok=True)
    for leftover in folder.frozen.glob(".*"):
        leftover.unlink()
    common = _common(task, found, accelerator)
    kept: dict[str, Rows] = {}
    missing: dict[str, tuple[Path, str]] = {}
    for name, (split, _) in sets.items():
        file = folder.frozen / f"{name}.safetensors"
        key = sha256(f"{common} {digest_of(task.source, split)}".encode()).hexdigest()
        known = read_rows(file, key)
        if known is None:
            missing[name] = file, key
        else:
            kept[name] = known
    counts = {name: len(task.source.split(split)) for name, (split, _) in sets.items()}
    with torch.no_grad(), accelerator.autocast():
        like = found.encode(pictures[:1])
    what = _in_words(found, like, counts, model.depth)
    say(f"frozen    {what} is kept in {folder.frozen}" + ("" if missing else ": it is there already"))
    check_room(folder.path, sum(bytes_of(like, counts[name]) for name in missing), f"cache_frozen: {what}")
    for name, (file, key) in missing.items():
        batches = _encoded(found, task, sets[name][1], name == "train", accelerator)
        write_rows(file, key, counts[name], batches)
        kept[name] = _read_back(file, key)
    model.train()
    rows, labels = _apart(kept.pop("train"))
    order, drop_last = task.batches.order, training.drop_last
    watched = {
        name: accelerator.prepare(kept_batches(*_apart(held), training.batch_size))
        for name, held in kept.items()
    }
    ordered = kept_batches(rows, labels, training.batch_size, order, drop_last)
    what = f"{found.blocks} of {model.depth} blocks and the training images do not change"
    return FrozenFeatures(found.rest, ordered, watched, time.perf_counter() - began, what)


def _splits(task: Task) -> dict[str, tuple[str, Batches]]:
    """The split of the data and the images in order, of what is trained and measured on in every epoch."""
    training = task.training
    images = ordered_batches(task.batches.images, training.batch_size, training.workers)
    found = {"train": (training.train_split, images)}
    if task.validation is not None:
        found["val"] = "val", task.validation
    if task.select == "best-on-test":
        found["test"] = task.test_split, task.test
    return found


def _encoded(
    found: Frozen, task: Task, images: Batches, training: bool, accelerator: Accelerator
) -> Iterator[Rows]:
    """What is kept of each batch, and its labels, in the mode in which these images are seen."""
    task.batches.start(0)
    task.model.train(training)
    for pictures, labels in images:
        with torch.no_grad(), accelerator.autocast():
            kept = found.encode(pictures.to(accelerator.device))
        yield {**kept, LABELS: labels}
    tolerant = task.batches.tolerant
    if training and tolerant is not None and (bad := tolerant.bad_names()):
        raise ValueError(
            f"{BEGIN} {bad[0]} cannot be read, and which images take its place is recorded in every epoch; "
            f"remove it from the data, {OR_WITHOUT}"
        )


def _common(task: Task, found: Frozen, accelerator: Accelerator) -> str:
    """Everything but the images that the kept values depend on."""
    model, training = task.model, task.training
    told = {
        "format": FORMAT,
        "kind": found.kind,
        "blocks": found.blocks,
        "methods": [repr(method) for method in model.methods],
        "weights": _digest_of_frozen(model),
        "preprocess": model.preprocess.to_json(),
        "precision": training.precision,
        "batch_size": training.batch_size,
        "device": accelerator.device.type,
        "versions": versions(),
    }
    return json.dumps(told, sort_keys=True)


def _digest_of_frozen(model: StagedViT) -> str:
    trained, digest = set(model.trained()), sha256()
    for name, value in model.state_dict().items():
        if name not in trained:
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(memoryview(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def _apart(rows: Rows) -> tuple[Rows, Tensor]:
    return {name: value for name, value in rows.items() if name != LABELS}, rows[LABELS]


def _read_back(file: Path, key: str) -> Rows:
    rows = read_rows(file, key)
    if rows is None:
        raise OSError(f"{file} was written but cannot be read back; is another program at work there?")
    return rows


def _in_words(found: Frozen, like: Kept, counts: Mapping[str, int], depth: int) -> str:
    images = " and ".join(f"{count:,} {name}" for name, count in counts.items())
    size = sum(bytes_of(like, count) for count in counts.values())
    each = " x ".join(map(str, like[next(iter(like))].shape[1:]))
    return (
        f"what {found.blocks} of {depth} blocks say of {images} images ({each} numbers and "
        f"{bytes_of(like, 1):,} bytes each, {size / 2**20:,.1f} MiB together)"
    )
