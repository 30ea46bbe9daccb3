"""Predict millions of images into a Parquet table, in a way that may be stopped and goes on."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from vitrim.data.finding import unread_note
from vitrim.deploy.bulk.asked import (
    USUAL_PART,
    Pace,
    Wanted,
    check_cluster,
    check_model,
    check_numbers,
    check_output,
    check_source,
)
from vitrim.deploy.bulk.beginning import begin, working_in
from vitrim.deploy.bulk.finishing import Output, finish
from vitrim.deploy.bulk.job import Job
from vitrim.deploy.bulk.opening import Opening, digest_of, folded
from vitrim.deploy.bulk.predictor import Predictor
from vitrim.deploy.bulk.watching import Watch
from vitrim.measuring.devices import pick_device
from vitrim.network.model import StagedViT
from vitrim.runs.image_lists import NamedImages, named_images

Given = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Predicted:
    """What a bulk prediction came to."""

    path: Path
    images: int
    rows: int
    broken: int
    """images that could not be read; they are listed in `broken_file`"""
    broken_file: Path
    now: int
    """images that this call predicted; the others were there already"""
    seconds: float
    nodes: tuple[str, ...] = ()
    """machines of a Ray cluster that took part"""


def bulk_predict(
    run: str | Path | StagedViT,
    images: Given,
    out: str | Path,
    *,
    top: int = 1,
    embeddings: bool = False,
    part_size: int = USUAL_PART,
    batch_size: int = 64,
    workers: int | None = None,
    device: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    skip_broken: bool = False,
    download: bool = False,
    trust: bool = False,
    on: str | None = None,
    actors: int | None = None,
    quiet: bool = True,
) -> Predicted:
    """The `top` most probable classes of every image, in a Parquet table with a row for each image, in order.

    The same call goes on where an earlier one stopped, however that ended.

    Args:
        run: a run folder, a model file, an exported file, or a model.
        images: files, folders, text files that list paths, patterns such as "photos/**/*.jpg", or
            "hf:OWNER/NAME" or "hf:FOLDER".
        out: a file that ends in .parquet, or a folder that gets a file for every part.
        embeddings: also write what the classifier reads.
        part_size: images that are predicted anew, at most, after a process was killed.
        batch_size, workers, device: as for training; they change how fast it goes.
        skip_broken: go on even past whole parts of which no image can be read.
        on: "ray" works on the machines of a Ray cluster; `actors` says how many models.

    Raises:
        ValueError: if a table that was begun is asked for otherwise than it was begun.

    >>> bulk_predict("runs/flowers", "photos", "photos.parquet", top=5)
    """
    source = _source(run, image_size, trust)
    pace = Pace(batch_size, workers, device, skip_broken, on, actors)
    return write_table(source, images, out, Wanted(top, embeddings, part_size), pace, download, quiet)


def bulk_embed(
    run: str | Path | StagedViT,
    images: Given,
    out: str | Path,
    *,
    part_size: int = USUAL_PART,
    batch_size: int = 64,
    workers: int | None = None,
    device: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    skip_broken: bool = False,
    download: bool = False,
    on: str | None = None,
    actors: int | None = None,
    quiet: bool = True,
) -> Predicted:
    """What the classifier of a run reads, or what a model composed with num_classes=0 gives, for every image:
    a Parquet table as of `bulk_predict`, with embeddings alone."""
    source = _source(run, image_size, trust=False)
    pace = Pace(batch_size, workers, device, skip_broken, on, actors)
    return write_table(source, images, out, Wanted(None, True, part_size), pace, download, quiet)


def _source(
    run: str | Path | StagedViT, image_size: int | tuple[int, int] | None, trust: bool
) -> StagedViT | Opening:
    if isinstance(run, str | Path):
        return Opening(str(run), image_size=image_size, trust=trust)
    if not isinstance(run, StagedViT):
        raise ValueError(f"run must be a folder, a file or a composed model, got {type(run).__name__}")
    if image_size is not None:
        raise ValueError("image_size goes with a run or a file; a model has its size already")
    return run


def write_table(
    source: StagedViT | Opening,
    images: Given,
    out: str | Path,
    wanted: Wanted,
    pace: Pace,
    download: bool = False,
    quiet: bool = True,
) -> Predicted:
    """What `bulk_predict` and `bulk_embed` do."""
    began = time.monotonic()
    given = [str(images)] if isinstance(images, str | Path) else [str(image) for image in images]
    output = check_output(out)
    check_numbers(wanted, pace)
    on_machines = check_cluster(pace, source)
    check_source(source, wanted)
    unread: Counter[str] = Counter()
    listed = named_images(given, unread, download)
    device = pick_device(pace.device)
    model = source.open() if isinstance(source, Opening) else source
    check_model(model, wanted)
    said = {"run": source.called if isinstance(source, Opening) else "a model in memory", "given": given}
    asked = {"format": 1, **said, "model": digest_of(source, model), "base": listed.place, **asdict(wanted)}
    with working_in(output):
        job = begin(output, asked, listed)
        now, nodes = 0, tuple[str, ...]()
        if not job.manifest["complete"]:
            if not quiet:
                _say(unread_note(unread))
            listed = listed.based(job.manifest["base"])
            missing = job.missing()
            before = job.manifest["images"] - sum(map(job.size, missing))
            with Watch(job.manifest["images"], before, not quiet) as watch, _stopped_in_words(watch, output):
                if on_machines is not None:
                    from vitrim.deploy.bulk.ray_actors import predict_on_ray

                    nodes = predict_on_ray(job, on_machines, pace, listed.read, missing, watch)
                else:
                    predictor = Predictor(folded(model), wanted.top, wanted.embeddings, device, pace)
                    _predict_here(predictor, job, listed, missing, watch)
            now = watch.done - before
            job = finish(job, output)
    rows, broken = (sum(part[key] for part in job.manifest["parts"]) for key in ("rows", "broken"))
    seconds = time.monotonic() - began
    return Predicted(output.path, job.manifest["images"], rows, broken, output.broken, now, seconds, nodes)


def _predict_here(
    predictor: Predictor, job: Job, listed: NamedImages, parts: Sequence[int], watch: Watch
) -> None:
    for part, count, table, broken in predictor.tables(job, listed.read, parts):
        if table is not None:
            job.write(part, table, broken)
        watch.add(count)


@contextmanager
def _stopped_in_words(watch: Watch, output: Output) -> Iterator[None]:
    """Say, where it is stopped, what is there and how it goes on."""
    goes_on = f"whole parts of {output.path} are kept, and the same command goes on"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped after {watch.words()}; {goes_on}") from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ChildProcessError(
            "a process that reads images was killed, as systems do when memory runs out; "
            f"{goes_on}, with fewer workers or a smaller batch_size if it happens again"
        ) from None


def _say(lines: Sequence[str]) -> None:
    sys.stderr.writelines(f"vitrim: {line}\n" for line in lines)
