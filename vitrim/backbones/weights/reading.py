"""Tensors out of a file, whatever wrote it, without ever running what the file says.

Safetensors, PyTorch's own format (`weights_only=True`: tensors and plain values, nothing is called) and NumPy
archives (`allow_pickle=False`). The kind is told by the first bytes, not by the name.
"""

import argparse
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

DEEPEST = 12  # nested dictionaries; training checkpoints have about five
FORMATS = "safetensors, PyTorch's .pth, .pt and .bin, and NumPy's .npz"


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """Every tensor in a weights file by its full name: nested dictionaries are joined by dots.

    Raises FileNotFoundError for a missing file and ValueError for one that cannot be read safely.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {str(file)!r}")
    kind = kind_of_file(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    if kind == "npz":
        return _read_npz(path)
    return dict(_flat(_read_torch(path)))


def kind_of_file(path: Path) -> str:
    """safetensors, npz or torch, by the first bytes."""
    with path.open("rb") as stream:
        start = stream.read(9)
    if len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size:
        return "safetensors"
    if start[:2] == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                return "npz" if any(name.endswith(".npy") for name in archive.namelist()) else "torch"
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path.name!r} is cut off or damaged: {error}") from None
    if start[:1] == b"\x80":
        return "torch"
    raise ValueError(f"{path.name!r} is no weights file; vitrim reads {FORMATS}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118, not a dict
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name!r} is not a readable safetensors file ({error})") from error


def _read_npz(path: Path) -> dict[str, Tensor]:
    found = {}
    try:
        with numpy.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                array = archive[name]
                if array.dtype.kind not in "fiub":
                    raise ValueError(f"{name} is of type {array.dtype}, which is no number PyTorch knows")
                found[name] = torch.from_numpy(array)
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name!r} is not a readable NumPy archive ({error})") from error
    return found


def _read_torch(path: Path) -> Any:
    try:
        # Opened here: newer PyTorch reads a file that is called .safetensors otherwise, whatever is in it.
        # timm and DeiT keep their arguments, a Namespace.
        with path.open("rb") as stream, torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_unsafe(path)) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        if "TorchScript" in str(error):
            raise ValueError(
                f"{path.name!r} is a TorchScript program, which would have to be run to be read; where you "
                "trust it, torch.save(torch.jit.load(FILE).state_dict(), NEW) writes its weights alone"
            ) from error
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path.name!r} is not a readable PyTorch file ({first})") from error


def _unsafe(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(stream)
    except Exception:  # of the old format, which lists nothing
        names = []
    what = f"names code ({', '.join(sorted(names)[:3])})" if names else "is damaged or names code"
    return (
        f"{path.name!r} {what}, so that reading it could run a program; nothing was read. Where you "
        "trust it, "
        "load it with the library that wrote it and torch.save(model.state_dict(), NEW)"
    )


def _flat(content: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix.removesuffix("."), content
    elif isinstance(content, Mapping) and depth < DEEPEST:
        for name, value in content.items():
            yield from _flat(value, f"{prefix}{name}.", depth + 1)
