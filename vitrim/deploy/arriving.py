"""A file that leaves: where it stands until it is known to be right, and what is known of it then. Nothing of
it is left behind if it is not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vitrim.deploy.check import Agreement
from vitrim.files.saving import task_record
from vitrim.network.model import StagedViT
from vitrim.writing import write_whole


@dataclass(frozen=True)
class Exported:
    """A file that left, and what is known about it; `NAME.check.json` beside it says the same."""

    path: Path
    agreement: Agreement
    about: dict[str, Any]
    megabytes: float
    accuracy: tuple[float, float] | None = None
    """percent right of the model and of the file on validation pictures, where that was measured (int8)"""

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.path.name,
            "megabytes": self.megabytes,
            "check": self.agreement.to_json(),
            "accuracy": self.accuracy,
            "about": self.about,
        }


def check_folder(target: Path) -> None:
    """Refuse a place that cannot be written to before anything is computed."""
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} to write {target.name} into")


def about_model(staged: StagedViT, *packages: str) -> dict[str, Any]:
    """What every file that leaves says about its model and the packages that made it."""
    return {
        "methods": [repr(method) for method in staged.methods],
        "backbone": staged.origin.name,
        "classes": None if staged.classes is None else list(staged.classes),
        "num_classes": staged.num_classes,
        "task": task_record(staged),
        "preprocess": staged.preprocess.to_json(),
        "versions": {name: version(name) for name in dict.fromkeys(("vitrim", "torch", "timm", *packages))},
    }


def refuse_differing(target: Path, agreement: Agreement) -> None:
    """What does not answer as the model does gets no name."""
    if not agreement.agrees:
        raise ValueError(f"{target.name} was not written: run, it does not agree: {agreement.in_words()}")


@contextmanager
def unnamed(target: Path) -> Iterator[Path]:
    """A place beside `target` to write a file or a folder to, empty at first and gone at the end."""
    part = target.with_name(f".part-{target.name}")
    try:
        _remove(part)  # of an export that was killed
        yield part
    except OSError as error:
        raise OSError(error.errno, f"cannot write {str(target)!r}: {error.strerror or error}") from error
    finally:
        _remove(part)


def name_it(part: Path, done: Exported) -> None:
    """Give what was checked its name, and write what is known of it beside it.

    The figures come first: they carry the content's digest, so that they are never taken for another file's.
    """
    figures = done.path.with_name(f"{done.path.name}.check.json")
    before = figures.read_bytes() if figures.is_file() else None
    text = json.dumps({**done.to_json(), "sha256": digest(part)}, indent=2) + "\n"
    write_whole(figures, text.encode())
    try:
        part.replace(done.path)
    except BaseException:
        figures.unlink() if before is None else write_whole(figures, before)
        raise


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the weights in a folder."""
    file = path / "model.safetensors" if path.is_dir() else path
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def megabytes(path: Path) -> float:
    """Size on disk of a file or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)
