"""What was measured of a supernet's subnets: a line each, appended and flushed as soon as it is known."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from vitrim.bounds import Name, Open, Share
from vitrim.methods.tuners.subnet import TUNERS, Subnet
from vitrim.reading import parse_json, text_of
from vitrim.writing import write_whole, writing

Sizes = Annotated[list[Annotated[int, Field(ge=0, le=65_536)]], Field(min_length=1, max_length=4096)]


class Header(Open):
    """The first line: whose subnets these are, and on how many images they were measured."""

    FORMAT: ClassVar[int] = 1
    supernet: Name
    images: Annotated[int, Field(ge=1, le=50_000_000)]


class Line(Open):
    """One subnet."""

    prompts: Sizes
    ranks: Sizes
    widths: Sizes
    accuracy: Share


class Evaluated:
    """Accuracies by subnet, in a file. A line that a kill cut off is measured again."""

    def __init__(self, file: Path, supernet: str, images: int) -> None:
        self.file = file
        self.found: dict[Subnet, float] = {}
        header = {"format": 1, "supernet": supernet, "images": images}
        if not file.exists():
            write_whole(file, (json.dumps(header) + "\n").encode())
            return
        lines = text_of(file).split(b"\n")
        cut_off = lines.pop()  # empty where the last line is whole
        stored = parse_json(lines[0], Header, f"the first line of {file}") if lines else {}
        if {name: stored.get(name) for name in header} != header:
            raise ValueError(
                f"{file} holds subnets of another supernet or of other images; choose another out, or remove "
                "that file to measure anew"
            )
        for number, line in enumerate(lines[1:], start=2):
            values = parse_json(line, Line, f"line {number} of {file}")
            self.found[Subnet(*(tuple(values[tuner]) for tuner in TUNERS))] = values["accuracy"]
        if cut_off:
            write_whole(file, b"\n".join([*lines, b""]))

    def __contains__(self, subnet: Subnet) -> bool:
        return subnet in self.found

    def __getitem__(self, subnet: Subnet) -> float:
        return self.found[subnet]

    def add(self, subnet: Subnet, accuracy: float) -> None:
        line = json.dumps({**subnet.to_json(), "accuracy": accuracy}) + "\n"
        with writing(self.file), self.file.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self.found[subnet] = accuracy
