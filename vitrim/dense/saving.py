"""A dense model in one safetensors file: the file of its backbone (`vitrim.files.saving`), and the head."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vitrim.bounds import Name, Open
from vitrim.checks import check_one_of
from vitrim.dense.classes import MOST_CLASSES, ClassTable
from vitrim.dense.model import DenseModel
from vitrim.files.saving import SEGMENT, described, needs_its_backbone, read, rebuilt, write_described
from vitrim.network.resizing import resize_images
from vitrim.reading import check_values, loose_json

HEAD = "dense.head."
INFERENCE = ("slide", "whole")
Level = Annotated[int, Field(ge=0, le=255)]


class Table(Open):
    names: Annotated[list[Name], Field(min_length=1, max_length=MOST_CLASSES)]
    colours: Annotated[list[Annotated[list[Level], Field(min_length=3, max_length=3)]], Field(max_length=255)]


class DenseAbout(Open):
    """What a file says about the dense part of its model."""

    kind: Name
    restore: Name
    taps: Annotated[list[Annotated[int, Field(ge=0, le=10_000)]], Field(min_length=1, max_length=100)]
    head: Name
    norm: bool
    inference: Name
    table: Table


def save_dense(model: DenseModel, path: str | Path, extra: dict[str, Any] | None = None) -> None:
    """Write what trains and how to rebuild the rest; the file appears whole or not at all."""
    about, tensors = described(model.staged, None, needs_its_backbone(model.staged), extra)
    about["task"] = {
        "kind": SEGMENT,
        "restore": model.restore,
        "taps": list(model.taps),
        "head": model.head_name,
        "norm": model.norm,
        "inference": model.inference,
        "table": model.table.to_json(),
    }
    head = {HEAD + name: value for name, value in model.head.state_dict().items()}
    write_described(path, about, tensors | head)


def load_dense(
    path: str | Path,
    backbone: str | nn.Module | None = None,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    image_size: int | tuple[int, int] | None = None,
) -> DenseModel:
    """The model that `save_dense` or a run wrote, in evaluation mode; arguments as for `vitrim.load`. `path`
    may be a run folder."""
    file = model_file(path)
    about, tensors = read(file)
    dense = about.get("task")
    if not isinstance(dense, dict) or dense.get("kind") != SEGMENT:
        raise ValueError(
            f"{str(file)!r} tells classes of whole pictures apart, not of pixels; open it with vitrim.load"
        )
    check_values(dense, DenseAbout, repr(str(file)))
    check_one_of(repr(str(file)), "inference", dense["inference"], INFERENCE)
    own = {name: value for name, value in tensors.items() if not name.startswith(HEAD)}
    model = DenseModel(
        rebuilt(file, about, own, backbone, weights),
        classes=ClassTable.from_json(dense["table"]),
        restore=dense["restore"],
        taps=dense["taps"],
        head=dense["head"],
        norm=dense["norm"],
    )
    _fill_head(model, {n.removeprefix(HEAD): v for n, v in tensors.items() if n.startswith(HEAD)}, file)
    model.inference = dense["inference"]
    if image_size is not None:
        resize_images(model.staged, image_size)
    return model.to(device).eval()


def is_dense_model(path: str | Path) -> bool:
    """Whether a file, or that of a run folder, holds a dense model, as its header says."""
    file = model_file(path)
    if not file.is_file() or file.suffix != ".safetensors":
        return False
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get("vitrim")
    except (SafetensorError, OSError):
        return False
    if text is None:
        return False
    try:
        about = loose_json(text, str(file))
    except ValueError:
        return False  # whoever opens it says what is wrong
    task = about.get("task") if isinstance(about, dict) else None
    return isinstance(task, dict) and task.get("kind") == SEGMENT


def model_file(path: str | Path) -> Path:
    """The model of a run folder, or the file itself."""
    return Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path)


def _fill_head(model: DenseModel, tensors: dict[str, Tensor], file: Path) -> None:
    own = model.head.state_dict()
    if set(own) != set(tensors):
        odd = sorted(set(own) ^ set(tensors))[0]
        raise ValueError(f"{file.name!r} does not fit its own head: they differ in {odd}")
    for name, value in tensors.items():
        if value.shape != own[name].shape:
            raise ValueError(
                f"{file.name!r} does not fit: {name} of its head has shape {tuple(value.shape)}, the model "
                f"{tuple(own[name].shape)}"
            )
    model.head.load_state_dict(tensors)
