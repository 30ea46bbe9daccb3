"""Checkpoints on disk: written whole, and a sentence where one cannot be read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrim.reading import check_values
from vitrim.writing import write_whole


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    import torch  # where it is used: a table of runs reads none of their checkpoints

    buffer = io.BytesIO()  # into memory first: torch reports a full disk as an internal error
    torch.save(dict(state), buffer)
    write_whole(path, buffer.getvalue())


def read_state(path: Path) -> dict[str, Any]:
    """The state in a file, once it fits its schema: that of a best epoch's weights, or of a checkpoint."""
    import torch

    from vitrim.runs.beside import Best, Checkpoint

    try:
        content = io.BytesIO(path.read_bytes())
        state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"the checkpoint {path} is missing; put it back to go on, or start a new run in another folder"
        ) from None
    except Exception:  # the bytes of a stranger make torch's reader fail in a dozen ways
        raise ValueError(
            f"the checkpoint {path} is damaged; delete it to go on from the one before"
        ) from None
    schema = Best if path.name.startswith("best-") else Checkpoint
    check_values(state, schema, f"the checkpoint {path}")
    odd = [name for name, value in state["weights"].items() if not plain(value)]
    if odd:
        raise ValueError(f"the checkpoint {path} is damaged: its weights.{odd[0][:60]} is not a plain tensor")
    return state


def plain(value: object) -> bool:
    """Whether a value is a tensor whose numbers are all there: not sparse, not on the meta device."""
    import torch

    return isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"
