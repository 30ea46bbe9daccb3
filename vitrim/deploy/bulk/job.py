"""A bulk prediction on disk: its manifest, the list of its images, and the parts that are done.

The images are split into parts of `part_size`, in the order of the list. A part is a Parquet file that takes
its name when it is whole; what could not be read of it stands in its metadata, so that rows and reasons
appear together. A process may therefore be killed at any moment: the parts that are there are right, and the
others are predicted anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.deploy.bulk.records import Manifest, PartNote
from vitrim.reading import parse_json, read_json
from vitrim.writing import whole_file, write_whole

if TYPE_CHECKING:
    from pyarrow import Table

MANIFEST, IMAGES = "_manifest.json", "_images"  # readers of a folder of Parquet pass over names with _
PART = re.compile(r"part-\d{8}\.parquet")
KEY = b"vitrim"  # of the metadata of parts and tables
DECIDES = ("model", "top", "embeddings", "images", "images_digest", "part_size")  # what the table holds


@dataclass(frozen=True)
class Job:
    """The folder of a prediction and what its manifest says. Travels to other processes and machines."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """The same for predictions whose tables are the same, and for no others."""
        decided = json.dumps({key: self.manifest[key] for key in DECIDES}, sort_keys=True)
        return hashlib.sha256(decided.encode()).hexdigest()

    @property
    def parts(self) -> int:
        return -(-self.manifest["images"] // self.manifest["part_size"])

    def size(self, part: int) -> int:
        """How many images a part has."""
        return min(self.manifest["part_size"], self.manifest["images"] - self.first(part))

    def first(self, part: int) -> int:
        """The place in the list of the first image of a part."""
        return part * int(self.manifest["part_size"])

    def images(self, parts: Iterable[int]) -> Iterator[tuple[int, list[str]]]:
        """The names of the images of some parts."""
        from pyarrow.parquet import ParquetFile

        with ParquetFile(self.folder / IMAGES) as listed:
            for part in parts:
                names = listed.read_row_group(part).column(0).to_pylist()
                yield part, [os.fsdecode(name) for name in names]

    def file(self, part: int) -> Path:
        return self.folder / f"part-{part:08d}.parquet"

    def write(self, part: int, table: Table, broken: list[dict[str, Any]]) -> None:
        """Let a part appear."""
        from pyarrow.parquet import write_table

        note = {"job": self.name, "part": part, "images": self.size(part), "broken": broken}
        noted = table.replace_schema_metadata({KEY: json.dumps(note).encode()})
        with whole_file(self.file(part)) as stream:
            write_table(noted, stream, compression="zstd", row_group_size=max(1, len(noted)))

    def note(self, part: int) -> dict[str, Any] | None:
        """What a finished part says of itself, with its number of rows; None where it is not there yet.

        Raises:
            ValueError: if the file is damaged, or a part of something else.
        """
        file = self.file(part)
        if not file.exists():
            return None
        found, rows = read_note(file)
        note = parse_json(found, PartNote, str(file))
        if note["job"] != self.name or note["part"] != part:
            raise ValueError(f"{file} belongs to another prediction; take it away and give the same command")
        if rows + len(note["broken"]) != self.size(part) or note["images"] != self.size(part):
            raise damaged(file, f"it has {rows:,} rows")
        return {**note, "rows": rows}

    def missing(self) -> list[int]:
        """The parts that are not there yet."""
        return [part for part in range(self.parts) if self.note(part) is None]

    def save(self) -> None:
        write_whole(self.folder / MANIFEST, json.dumps(self.manifest, indent=1).encode())


def read_note(file: Path) -> tuple[bytes, int]:
    """What vitrim wrote into the metadata of a Parquet file, and its number of rows."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_metadata

    try:
        found = read_metadata(file)
    except (ArrowException, OSError) as error:
        raise damaged(file, " ".join(str(error).split())[:200]) from None
    return (found.metadata or {}).get(KEY, b"{}"), found.num_rows


def damaged(file: Path, why: str) -> ValueError:
    return ValueError(
        f"{file} is damaged ({why}); delete it and give the same command: what was in it is predicted again"
    )


def open_job(folder: Path) -> Job | None:
    """The prediction begun in a folder, None where there is none."""
    if not (folder / MANIFEST).exists():
        return None
    return Job(folder, read_json(folder / MANIFEST, Manifest))


def write_list(names: Iterable[str], place: str, part_size: int, file: Path) -> tuple[int, str]:
    """Write the names of all images, a row group for each part; how many there are, and a digest of them.

    Names are bytes, as file names are; relative ones count as those of `place`, whatever they are called.
    """
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = pyarrow.schema([("image", pyarrow.binary())])
    running, count, remaining = hashlib.sha256(), 0, iter(names)
    with whole_file(file) as stream, ParquetWriter(stream, schema) as writer:
        while stored := [os.fsencode(name) for name in islice(remaining, part_size)]:
            for name in stored:
                whole = os.path.join(os.fsencode(place), name)  # noqa: PTH118  a million times
                running.update(len(whole).to_bytes(8, "little") + whole)
            writer.write_table(pyarrow.table([stored], schema), row_group_size=part_size)
            count += len(stored)
    return count, running.hexdigest()
