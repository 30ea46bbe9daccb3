"""What the ways back to other libraries share: a file of tensors, and what came of opening it there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from vitrim.writing import write_whole

METADATA = "vitrim.export"  # not "vitrim": that is how a saved composition is known


@dataclass(frozen=True)
class Written:
    """The library's own model, filled from what was written, and how a user opens it."""

    model: nn.Module
    how: str


def write_tensors(tensors: dict[str, Tensor], about: dict[str, Any], part: Path) -> None:
    """A safetensors file."""
    values = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_whole(part, save(values, metadata={"format": "pt", METADATA: json.dumps(about)}))


@contextmanager
def strictly(library: str, model: str) -> Iterator[None]:
    """Turn a library's own refusal of a shape or a name into one sentence."""
    try:
        yield
    except (RuntimeError, TypeError, KeyError, AssertionError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise ValueError(f"{library} has no form for this {model}: {' '.join(lines[:2])}") from error
