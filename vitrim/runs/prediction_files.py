"""Predictions as text, CSV or JSON, written line by line as they come."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from vitrim.runs.predict import Prediction
from vitrim.writing import writing

COLUMNS = ("path", "truth", "rank", "class", "probability")
Row = tuple[str, str | None, list[Prediction]]  # path, class of the folder, best first


@dataclass
class Pictures:
    """The guesses of each picture with the class its folder is named after, counted as they pass."""

    found: Iterable[list[Prediction]]
    given: Sequence[str]
    classes: Sequence[str]
    count: int = 0
    known: int = 0
    """those below a folder that is called like a class"""
    right: int = 0
    """those of them whose most probable class it is"""

    def __iter__(self) -> Iterator[Row]:
        for best in self.found:
            truth = self.truth(best[0].path)
            self.count += 1
            self.known += truth is not None
            self.right += truth == best[0].name
            yield printable(best[0].path), truth, best

    def truth(self, path: str) -> str | None:
        """The class that the nearest folder is called like, of those given and those below them."""
        for root in map(Path, self.given):
            if Path(path) != root and Path(path).is_relative_to(root):
                folders = (root.resolve().name, *Path(path).relative_to(root).parts[:-1])
                return next((name for name in reversed(folders) if name in self.classes), None)
        return None


def printable(path: str) -> str:
    """A path on one line of UTF-8, whatever bytes its name has."""
    text = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def write_text(pictures: Iterable[Row], stream: TextIO) -> None:
    """One line for each picture and class, separated by tabs."""
    for path, _, best in pictures:
        stream.writelines(f"{path}\t{guess.name}\t{guess.probability:.4f}\n" for guess in best)
        stream.flush()


def write_csv(pictures: Iterable[Row], stream: TextIO) -> None:
    """The same as a table with a header."""
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(COLUMNS)
    for path, truth, best in pictures:
        for rank, guess in enumerate(best, start=1):
            table.writerow((path, truth or "", rank, guess.name, f"{guess.probability:.6f}"))
        stream.flush()


def write_json(pictures: Iterable[Row], stream: TextIO) -> None:
    """A list of one object for each picture."""
    start = "["
    for path, truth, best in pictures:
        guesses = [{"class": guess.name, "probability": round(guess.probability, 6)} for guess in best]
        stream.write(f"{start}\n{json.dumps({'path': path, 'truth': truth, 'predictions': guesses})}")
        stream.flush()
        start = ","
    stream.write("[]\n" if start == "[" else "\n]\n")


WRITERS: dict[str, Callable[[Iterable[Row], TextIO], None]] = {
    "text": write_text,
    "csv": write_csv,
    "json": write_json,
}


@contextmanager
def output(file: str) -> Iterator[TextIO]:
    """Standard output for "-"; else a file that takes its name when it is whole.

    What there was when an error ends it is kept beside, with .part after the name.
    """
    if file == "-":
        yield sys.stdout
        return
    path = Path(file).expanduser()
    part = path.with_name(f"{path.name}.part")
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(21, "is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = part.open("w", encoding="utf-8", newline="")
    with stream:
        yield stream
    with writing(path):
        part.replace(path)
