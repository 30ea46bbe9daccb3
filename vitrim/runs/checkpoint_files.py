"""Checkpoints on disk: written whole, and a sentence where one cannot be read."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrim.writing import write_whole


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    import torch  # where it is used: a table of runs reads none of their checkpoints

    buffer = io.BytesIO()  # into memory first: torch reports a full disk as an internal error
    torch.save(dict(state), buffer)
    write_whole(path, buffer.getvalue())


def read_state(path: Path) -> dict[str, Any]:
    import torch

    try:
        content = io.BytesIO(path.read_bytes())
        state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"the checkpoint {path} is missing; put it back to go on, or start a new run in another folder"
        ) from None
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile):
        raise ValueError(
            f"the checkpoint {path} is damaged; delete it to go on from the one before"
        ) from None
    return state
