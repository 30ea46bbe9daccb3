"""Where staircases are kept: a file for every machine, model and way of measuring, in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BaseModel, Field

from vitrim.backbones.structure import structure_digest
from vitrim.measuring.machine import cpu_name, versions
from vitrim.network.model import StagedViT
from vitrim.planner.staircase import COARSE, PARTS, ROUNDS, Curve, Timer, measure
from vitrim.reading import read_json
from vitrim.writing import write_whole

Milliseconds = Annotated[float, Field(gt=0, lt=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**20)]


class KeptCurve(BaseModel):
    """A staircase as it lies in a file."""

    FORMAT: ClassVar[int] = 1
    format: int
    key: dict[str, str | int]
    date: str
    parts: dict[str, Annotated[list[tuple[Count, Milliseconds]], Field(min_length=1)]]


def cache_folder() -> Path:
    """Where staircases are kept if no folder is named."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "vitrim" / "staircases"


def curve_of(
    model: StagedViT,
    batch_size: int,
    folder: Path,
    timer: Timer | None = None,
    say: Callable[[str], object] = str,
) -> Curve:
    """The kept staircase of a model without methods on its device, or a new one, which is kept.

    What cannot be read is said and measured anew.
    """
    key = key_of(model, batch_size)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    file = folder / f"{digest[:24]}.json"
    if file.exists():
        try:
            return Curve(_read(file, key, model.patch_count), batch_size)
        except ValueError as error:
            say(f"{error}; it is measured anew")
    folder.mkdir(parents=True, exist_ok=True)  # before the minutes that measuring takes
    say(f"measuring a block at many counts of tokens, once; kept in {file}")
    curve = measure(model, batch_size, timer)
    record = {
        "format": KeptCurve.FORMAT,
        "key": key,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": curve.parts,
    }
    write_whole(file, (json.dumps(record, indent=1) + "\n").encode())
    return curve


def key_of(model: StagedViT, batch_size: int) -> dict[str, str | int]:
    """All that the time of a block hangs on: the device, the software, the block and the batch."""
    from timm.layers import use_fused_attn

    like, found = next(model.vit.parameters()), versions()
    gpu = like.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(like.device) if gpu else f"{like.device.type}: {cpu_name()}",
        "threads": 0 if gpu else torch.get_num_threads(),
        **{name: found[name] for name in ("vitrim", "torch", "timm")},
        "dtype": str(like.dtype),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "fused_attention": int(use_fused_attn()),
        "structure": structure_digest(model.vit),
        "patches": model.patch_count,
        "classes": model.num_classes,
        "batch_size": batch_size,
        "measured": f"{', '.join(PARTS)} in {ROUNDS} rounds, {COARSE} intervals",
    }


def _read(file: Path, key: dict[str, str | int], whole: int) -> dict[str, Any]:
    """The parts in a file, once they are such as `measure` gives."""
    stored = read_json(file, KeptCurve, most=2**20)
    why = f"{file} is damaged and cannot be read: "
    if stored["key"] != key:
        raise ValueError(f"{why}it was measured for something else than its name says")
    if set(stored["parts"]) != set(PARTS):
        raise ValueError(f"{why}it holds other parts than {', '.join(PARTS)}")
    parts = {name: tuple((count, float(time)) for count, time in stored["parts"][name]) for name in PARTS}
    for name, points in parts.items():
        ascend = all(after[0] > before[0] for before, after in pairwise(points))
        if not ascend or points[-1][0] != (0 if name == "outside" else whole):
            raise ValueError(f"{why}the counts of its {name} do not ascend to all of {whole} patches")
    return parts
