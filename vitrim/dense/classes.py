"""The classes of a segmentation, with a colour each: one table for masks on disk, overlays and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

IGNORE = 255  # the label of pixels that count for nothing, in every mask that vitrim holds in memory
MOST_CLASSES = 255  # class numbers 0 to 254
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """Names and colours of the classes, in the order of their numbers.

    Attributes:
        names: each once.
        colours: red, green and blue from 0 to 255; not given: those of PASCAL VOC's tool, by number.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "colours", tuple(map(tuple, self.colours)) or usual_colours(len(self.names)))
        if not 1 <= len(self.names) <= MOST_CLASSES:
            raise ValueError(
                f"a segmentation has 1 to {MOST_CLASSES} classes, got {len(self.names)}: {IGNORE} is the "
                "label of pixels without a class"
            )
        for name in self.names:
            if not isinstance(name, str) or not name:
                raise ValueError(f"class names must be texts, got {name!r}")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"two classes are called {twice[0]!r}; give each a name of its own")
        if len(self.colours) != len(self.names):
            raise ValueError(f"{len(self.colours)} colours for {len(self.names)} classes; give one for each")
        for colour in self.colours:
            if len(colour) != 3 or not all(_is_channel(value) for value in colour):
                raise ValueError(f"a colour is red, green and blue from 0 to 255, got {colour!r}")

    @staticmethod
    def of(given: ClassTable | Sequence[str] | int) -> ClassTable:
        """A table from one, from names, or from the number of classes."""
        if isinstance(given, ClassTable):
            return given
        if isinstance(given, int) and not isinstance(given, bool):
            return ClassTable(tuple(f"class {number}" for number in range(given)))
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise ValueError(f"classes must be names, their number or a ClassTable, got {given!r}")
        return ClassTable(tuple(given))

    def __len__(self) -> int:
        return len(self.names)

    def palette(self) -> list[int]:
        """What a palette PNG stores: 256 colours, white for `IGNORE`, black for numbers without a class."""
        filled = [*self.colours, *[(0, 0, 0)] * (255 - len(self.colours)), (255, 255, 255)]
        return [value for colour in filled for value in colour]

    def to_json(self) -> dict[str, Any]:
        return {"names": list(self.names), "colours": [list(colour) for colour in self.colours]}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> ClassTable:
        return ClassTable(tuple(stored["names"]), tuple(tuple(colour) for colour in stored["colours"]))


def usual_colours(count: int) -> tuple[Colour, ...]:
    """PASCAL VOC's colours: the bits of a class's number, dealt out to red, green and blue from the top."""
    return tuple(_dealt(number) for number in range(count))


def _dealt(number: int) -> Colour:
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
    return channels[0], channels[1], channels[2]


def _is_channel(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
