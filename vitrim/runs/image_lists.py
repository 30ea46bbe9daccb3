"""Images by name, in an order that is the same whenever it is asked for: files, folders, text files that list
paths, patterns, and data sets of the Hugging Face Hub.

Names come one after the other, and whatever reads an image of a name travels to other processes and machines.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from vitrim.data.finding import is_picture, walk_pictures
from vitrim.data.images import MissingImageError, Picture, read_image
from vitrim.runs.given_images import each_image

if TYPE_CHECKING:
    from vitrim.data.huggingface_columns import FromHub
    from vitrim.data.source import Reader

HUB = "hf:"
LIST_ENDINGS = (".txt", ".list", ".lst")
LOOKED_AT = 100  # first paths of a list, of which one at least has to be there


@dataclass(frozen=True)
class NamedImages:
    """Images that can be listed again, and be read by name."""

    names: Callable[[], Iterator[str]]
    read: Reader
    place: str
    """what names start from; relative paths of another folder are other images"""

    def based(self, place: str) -> NamedImages:
        """The same names, starting from another place."""
        read = FromDisk(place) if isinstance(self.read, FromDisk) else self.read
        return NamedImages(self.names, read, place)


@dataclass(frozen=True)
class FromDisk:
    """Reads the file of a path; a relative one starts from `base`."""

    base: str

    def __call__(self, name: str, at_least: int | None = None, channels: int = 3) -> Picture:
        return read_image(Path(self.base, name), at_least, channels)


@dataclass
class FromDataset:
    """Reads an image of a Hugging Face data set, which each process opens for itself."""

    spec: str
    download: bool
    found: tuple[FromHub, dict[str, int]] | None = field(default=None, repr=False)
    """what reads, and how many rows each split has; once it is open"""

    def __call__(self, name: str, at_least: int | None = None, channels: int = 3) -> Picture:
        return self.opened()[0](name, at_least, channels)

    def opened(self) -> tuple[FromHub, dict[str, int]]:
        if self.found is None:
            self.found = _open_dataset(self.spec, self.download)
        return self.found

    def names(self) -> Iterator[str]:
        for split, count in self.opened()[1].items():
            yield from (f"{split}/{row}" for row in range(count))

    def __getstate__(self) -> dict[str, object]:
        return {"spec": self.spec, "download": self.download, "found": None}


def _open_dataset(spec: str, download: bool) -> tuple[FromHub, dict[str, int]]:
    from vitrim.data.huggingface import open_images
    from vitrim.data.spec import parse_spec

    return open_images(replace(parse_spec(spec), download=download))


def named_images(
    given: Sequence[str], unread: Counter[str] | None = None, download: bool = False
) -> NamedImages:
    """What a user names as images, in the order given.

    Raises:
        ValueError: if it is nothing that holds images, saying what may be given.
        FileNotFoundError: if it is not there.
    """
    if any(text.startswith(HUB) for text in given):
        if len(given) > 1:
            raise ValueError(f"{HUB} names a whole data set; give it alone, without further images")
        reader = FromDataset(given[0], download)
        reader.opened()
        return NamedImages(reader.names, reader, given[0])
    if download:
        raise ValueError(
            f"download fetches data sets of the Hub: name one as {HUB}OWNER/NAME, or leave download out"
        )
    place = str(Path.cwd())
    return NamedImages(lambda: map(str, each_path(given, unread)), FromDisk(place), place)


def each_path(given: Sequence[str], unread: Counter[str] | None = None) -> Iterator[Path]:
    """The image files that are named: pictures below folders, lines of lists, what matches patterns."""
    if not given:
        raise ValueError("no images were given; name image files, a folder or a list of them, or a pattern")
    for text in given:
        path = Path(text).expanduser()
        if is_list(path):
            yield from listed(path)
        elif is_pattern(text):
            yield from matching(str(path), unread)
        else:
            yield from (source for _, source in each_image(path, unread) if isinstance(source, Path))


def as_images(given: Sequence[str], unread: Counter[str] | None = None) -> Sequence[str] | Iterator[Path]:
    """What `predict` takes for them: files and folders as they are, the others one path after the other."""
    if any(text.startswith(HUB) for text in given):
        raise ValueError(f"images of a data set ({HUB}) go into a table: give --out FILE.parquet")
    if any(is_list(Path(text).expanduser()) or is_pattern(text) for text in given):
        return each_path(given, unread)
    return given


def is_pattern(text: str) -> bool:
    """Whether this stands for several names, and is not one itself."""
    return glob.has_magic(text) and not os.path.lexists(text)


def is_list(path: Path) -> bool:
    """Whether this is a text file that lists images."""
    return path.suffix.lower() in LIST_ENDINGS and path.is_file()


def listed(file: Path) -> Iterator[Path]:
    """The paths in a text file, one a line; relative ones start from its folder."""
    paths = _lines(file)
    first = list(islice(paths, LOOKED_AT))
    if not first:
        raise ValueError(f"{file} lists no images; write one path a line")
    if not any(os.path.lexists(path) for path in first):
        raise MissingImageError(
            f"{file} lists no file that is there, at least not in its first {len(first)} lines, such as "
            f"{first[0]}; write one path a line, from the list's own folder or from the root"
        )
    yield from first
    yield from paths


def _lines(file: Path) -> Iterator[Path]:
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            if line.strip():
                yield file.parent / line.rstrip("\r\n")


def matching(pattern: str, unread: Counter[str] | None = None) -> Iterator[Path]:
    """The pictures that match a pattern, sorted; of folders that match, all below them."""
    found = False
    for path in map(Path, sorted(glob.iglob(pattern, recursive=True))):  # noqa: PTH207  of any root
        if path.is_dir():
            if "**" not in pattern:  # which matches the pictures below by themselves
                for picture in walk_pictures(path, unread):
                    found = True
                    yield picture
        elif is_picture(path.name):
            found = True
            yield path
    if not found:
        raise MissingImageError(f"no picture matches {pattern!r}")
