"""What may be asked of a bulk prediction: what decides the table, what decides only how fast it comes, and
what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from vitrim.checks import check_one_of, check_positive
from vitrim.deploy.bulk.finishing import Output
from vitrim.deploy.bulk.opening import Opening
from vitrim.deploy.bulk.records import LARGEST_PART
from vitrim.deploy.exported import is_exported
from vitrim.measuring.machine import cpu_count
from vitrim.network.model import StagedViT

OWNER = "bulk prediction"
USUAL_PART = 1024  # images


@dataclass(frozen=True)
class Wanted:
    """What the table holds: `top` classes, or none of them, and embeddings."""

    top: int | None = 1
    embeddings: bool = False
    part_size: int = USUAL_PART


@dataclass(frozen=True)
class Pace:
    """Where and how fast; another one goes on with what was begun."""

    batch_size: int = 64
    workers: int | None = None
    """processes that read images ahead; None: by the machine"""
    device: str | None = None
    skip_broken: bool = False
    """go on even where no image of a whole part can be read"""
    on: str | None = None
    actors: int | None = None

    def reading_processes(self, device: torch.device) -> int:
        """On a CPU of few cores they would only take them from the model."""
        if self.workers is not None:
            return self.workers
        return min(16, cpu_count()) if device.type != "cpu" else cpu_count() // 4


def check_numbers(wanted: Wanted, pace: Pace) -> None:
    """Refuse what no model and no images are needed for."""
    if find_spec("pyarrow") is None:
        raise ValueError("Parquet is written by pyarrow; pip install 'vitrim[bulk]'")
    check_positive(OWNER, "part_size", wanted.part_size)
    check_positive(OWNER, "batch_size", pace.batch_size)
    if wanted.part_size > LARGEST_PART:
        raise ValueError(f"part_size must be at most {LARGEST_PART:,}, got {wanted.part_size:,}")
    workers = pace.workers
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 0):
        raise ValueError(f"workers must be a whole number of at least 0, got {workers!r}")


def check_cluster(pace: Pace, source: StagedViT | Opening) -> Opening | None:
    """What the machines of a cluster open; None where there is none."""
    if pace.on is None:
        if pace.actors is not None:
            raise ValueError("actors are the models on a cluster; give on='ray' (--on ray) with them")
        return None
    check_one_of(OWNER, "on", pace.on, ("ray",))
    if pace.actors is not None:
        check_positive(OWNER, "actors", pace.actors)
    if find_spec("ray") is None:
        raise ValueError("machines of a cluster are reached by Ray; pip install 'vitrim[ray]'")
    if not isinstance(source, Opening):
        raise ValueError("other machines cannot open a model in memory; save it and give the file")
    return source


def check_output(out: str | Path) -> Output:
    """One file, by its ending, or else a folder."""
    output = Output(Path(out).expanduser().absolute())
    if output.one_file and output.path.is_dir():
        raise IsADirectoryError(21, f"{out} is a folder; a folder of parts has a name without .parquet")
    if not output.one_file and (output.path.suffix or output.path.is_file()):
        raise ValueError(f"out must be a file that ends in .parquet, or a folder, got {out}")
    return output


def check_source(source: StagedViT | Opening, wanted: Wanted) -> None:
    """Refuse what a file's ending tells, before a program is opened or its user asked to trust it."""
    if wanted.embeddings and isinstance(source, Opening) and source.run and is_exported(source.run):
        raise ValueError("an exported file gives no embeddings; take the run it was exported from")


def check_model(model: StagedViT, wanted: Wanted) -> None:
    """Refuse what the model cannot say."""
    if wanted.top is None:
        return
    if not model.num_classes:
        raise ValueError(
            "this model has no classifier, so it predicts nothing; vitrim embed (bulk_embed) writes what it "
            "gives"
        )
    top = wanted.top
    if not isinstance(top, int) or isinstance(top, bool) or not 1 <= top <= model.num_classes:
        raise ValueError(
            f"top must be between 1 and the number of classes ({model.num_classes}), got {top!r}"
        )
