"""What a benchmark has measured so far: JSON lines, so that the same command goes on after a stop."""

import json
import os
from pathlib import Path
from typing import Any


def noted(file: Path | None) -> list[dict[str, Any]]:
    """The lines there are; one that was cut off by a kill does not count."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def note(file: Path, row: dict[str, Any]) -> None:
    """One line more, on a line of its own also behind one that was cut off."""
    with file.open("a+b") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write(json.dumps(row).encode() + b"\n")
