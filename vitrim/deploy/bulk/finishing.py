"""What becomes of parts that are all there: one table, or a folder that says so; and the list of images that
could not be read."""

from __future__ import annotations

import codecs
import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.deploy.bulk.job import IMAGES, KEY, Job, open_job, read_note
from vitrim.deploy.bulk.records import Manifest
from vitrim.reading import parse_json
from vitrim.writing import whole_file

if TYPE_CHECKING:
    from pyarrow import Table

ENDING = ".parquet"
ITSELF = "."  # of a table in one file, whatever it is called
TOGETHER = 8192  # rows of a row group in one file, at least


@dataclass(frozen=True)
class Output:
    """Where a table goes: to one file, or to a folder of parts."""

    path: Path

    @property
    def one_file(self) -> bool:
        return self.path.suffix.lower() == ENDING

    @property
    def folder(self) -> Path:
        """Where the parts lie."""
        return self.path.with_name(f"{self.path.name}.parts") if self.one_file else self.path

    @property
    def broken(self) -> Path:
        return self.path.with_suffix(".broken.csv") if self.one_file else self.path / "_broken.csv"

    def finished(self) -> Job | None:
        """The prediction that lies there already, whole."""
        if not self.one_file:
            job = open_job(self.folder)
            return job if job is not None and job.manifest["complete"] else None
        if not self.path.exists():
            return None
        note, _ = read_note(self.path)
        if note == b"{}":
            raise FileExistsError(f"{self.path} holds something else already; give another --out")
        return Job(self.folder, parse_json(note, Manifest, str(self.path)))


def finish(job: Job, output: Output) -> Job:
    """Write what users read, each file whole under its name. Can be done again at any moment."""
    parts = _write_broken(job, output.broken)
    if output.one_file:
        rows, broken = (sum(part[key] for part in parts) for key in ("rows", "broken"))
        parts = [{"file": ITSELF, "rows": rows, "broken": broken}]
    done = Job(job.folder, {**job.manifest, "complete": True, "parts": parts})
    if output.one_file:
        _write_table(done, output.path)
        shutil.rmtree(job.folder)
    else:
        done.save()
        (job.folder / IMAGES).unlink(missing_ok=True)
    return done


def _write_broken(job: Job, file: Path) -> list[dict[str, Any]]:
    """List what could not be read; what the manifest says of every part."""
    parts = []
    with whole_file(file) as stream:
        text = codecs.getwriter("utf-8")(stream)
        table = csv.DictWriter(text, ("index", "path", "reason"), extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        for part in range(job.parts):
            note = job.note(part)
            if note is None:
                raise FileNotFoundError(
                    f"{job.file(part)} was predicted, but is not there; --out has to lie on a disk that all "
                    "machines share"
                )
            table.writerows(note["broken"])
            parts.append({"file": job.file(part).name, "rows": note["rows"], "broken": len(note["broken"])})
    return parts


def _write_table(done: Job, file: Path) -> None:
    """The parts one after the other, in row groups of a size that readers like."""
    from pyarrow.parquet import ParquetFile, ParquetWriter

    with ParquetFile(done.file(0)) as first:
        schema = first.schema_arrow.with_metadata({KEY: json.dumps(done.manifest).encode()})
    with whole_file(file) as stream, ParquetWriter(stream, schema, compression="zstd") as writer:
        for table in _together(done):
            writer.write_table(table.cast(schema), row_group_size=max(1, len(table)))


def _together(job: Job) -> Iterator[Table]:
    from pyarrow import concat_tables
    from pyarrow.parquet import read_table

    waiting: list[Table] = []
    for part in range(job.parts):
        waiting.append(read_table(job.file(part)).replace_schema_metadata(None))
        if sum(map(len, waiting)) >= TOGETHER or part == job.parts - 1:
            yield concat_tables(waiting)
            waiting = []
