"""A bulk prediction is begun, or found as an earlier process left it; asked for otherwise, it is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from vitrim.deploy.bulk.columns import utf8
from vitrim.deploy.bulk.finishing import Output
from vitrim.deploy.bulk.job import IMAGES, MANIFEST, PART, Job, open_job, write_list
from vitrim.runs.image_lists import NamedImages
from vitrim.runs.lock import alone_in
from vitrim.writing import writing

NEW = f"{IMAGES}.new"
OURS = (IMAGES, NEW)  # what a process leaves that was killed before it wrote the manifest


@contextmanager
def working_in(output: Output) -> Iterator[None]:
    """Hold the folder of the parts, alone; where nothing was begun, nothing is left."""
    fresh = not output.folder.exists()
    with writing(output.folder):
        output.folder.mkdir(parents=True, exist_ok=True)
    try:
        with alone_in(output.folder, "written to", "give the same command"):
            for left in output.folder.glob(".*.part"):  # of processes that were killed
                left.unlink(missing_ok=True)
            yield
    finally:
        if fresh and open_job(output.folder) is None:
            shutil.rmtree(output.folder, ignore_errors=True)


def begin(output: Output, asked: dict[str, Any], listed: NamedImages) -> Job:
    """The prediction asked for: begun now, or found as it was left, or found finished.

    Raises:
        ValueError: if what was begun there is another one.
    """
    finished = output.finished()
    found = finished or open_job(output.folder)
    if found is None:
        _check_empty(output)
    new = output.folder / NEW
    try:
        count, digest = write_list(listed.names(), listed.place, asked["part_size"], new)
        asked = {**asked, "images": count, "images_digest": digest, "complete": False, "parts": []}
        job = Job(output.folder, asked)
        if found is not None:
            _check_same(found, job, output)
        if finished is not None and output.one_file:
            if all(map(_is_left, output.folder.iterdir())):
                shutil.rmtree(output.folder)  # of the parts, by a process that was killed
            return finished
        if found is None or (finished is not None and finished.missing()):
            new.replace(output.folder / IMAGES)
            job.save()
            return job
        return found
    finally:
        new.unlink(missing_ok=True)


def _is_left(path: Path) -> bool:
    """Whether a process leaves this that is killed after the table got its name."""
    name = path.name
    return name in (*OURS, MANIFEST) or name.startswith(".") or PART.fullmatch(name) is not None


def _check_empty(output: Output) -> None:
    for path in output.folder.iterdir():
        if path.name not in OURS and not path.name.startswith("."):
            raise FileExistsError(
                f"{output.folder} holds {path.name}, which is no part of a prediction that was begun there; "
                "give another --out"
            )


def _check_same(found: Job, asked: Job, output: Output) -> None:
    """Refuse to go on with another model, other images or other columns."""
    before, now = found.manifest, asked.manifest
    ways = f"give what it was begun with, or another --out, or delete {output.path.name} to begin anew"
    if not output.path.exists():
        ways = ways.replace(output.path.name, output.folder.name)
    if before["model"] != now["model"]:
        what = f"the model {before['run']}, which has changed since"
        if before["run"] != now["run"]:
            what = f"the model {before['run']}, and {now['run']} is another"
        raise ValueError(f"{output.path} was begun with {what}; {ways}")
    for key in ("top", "embeddings", "part_size"):
        if before[key] != now[key]:
            raise ValueError(
                f"{output.path} was begun with {_shown(key, before[key])}, not {_shown(key, now[key])}; "
                f"{ways}"
            )
    if before["images_digest"] != now["images_digest"]:
        raise ValueError(
            f"{output.path} was begun with {before['images']:,} images, and those given now are "
            f"{now['images']:,}{_first_difference(found.folder)}; {ways}"
        )


def _shown(key: str, value: object) -> str:
    if key == "embeddings":
        return "embeddings" if value else "no embeddings"
    return "embeddings alone" if value is None else f"{key}={value}"


def _first_difference(folder: Path) -> str:
    """Where two lists of images begin to differ, if both are still there."""
    if not (folder / IMAGES).exists():
        return ""
    pairs = zip_longest(_names(folder / IMAGES), _names(folder / NEW))
    for place, (before, now) in enumerate(pairs):
        if before != now:
            was, given = (utf8(name) if name else "nothing" for name in (before, now))
            return f", of which number {place:,} was {was} and now is {given}"
    return " of another folder"


def _names(file: Path) -> Iterator[str]:
    import os

    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as listed:
        for group in range(listed.num_row_groups):
            yield from map(os.fsdecode, listed.read_row_group(group).column(0).to_pylist())
