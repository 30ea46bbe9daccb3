"""The runs of a sweep: every recipe on every data set with every seed, and how each is started."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from vitrim.settings.left_open import AUTO, CAN_BE_OPEN, for_epochs
from vitrim.settings.protocols import find_protocol
from vitrim.settings.run_plan import Asked, recipe_named
from vitrim.sweep.file import Entry, SweepFile

LONGEST = 60  # letters of a name in the names of files


@dataclass(frozen=True)
class Job:
    """One run of a sweep: what it is called, what it asks for, and where it lives."""

    name: str
    """the row it belongs to"""
    asked: Asked
    folder: Path
    """its run folder"""
    log: Path
    """what it printed"""
    lock: Path
    """held by whoever works on it"""
    cpu: bool = False

    @property
    def data(self) -> str:
        return str(self.asked.data)

    @property
    def seed(self) -> int:
        return int(str(self.asked.training_changes()["seed"]))

    @property
    def title(self) -> str:
        return f"{self.name} on {self.data}, seed {self.seed}"

    def command(self, resume: bool) -> list[str]:
        """The command that makes the run, or continues it."""
        start = [sys.executable, "-m", "vitrim", "train", f"--out={self.folder}", "--quiet"]
        start += ["--cpu"] if self.cpu else []
        return [*start, "--resume"] if resume else [*start, *options(self.asked)]


def options(asked: Asked) -> list[str]:
    """What was asked for, as options of `vitrim train`."""
    settings = asked.settings()
    methods = settings.pop("methods", ())
    found = ["--pretrained"] if settings.pop("pretrained", False) else []
    automatic = dict.fromkeys(asked.automatic(), AUTO)
    for name, value in {**settings, **asked.training_changes(), **automatic}.items():
        found.append(f"--{name}={value if isinstance(value, str) else json.dumps(value)}")
    return found + [f"--method={text}" for text in methods]


def jobs(sweep: SweepFile, out: Path, cpu: bool = False) -> list[Job]:
    """All runs, seed by seed, so that a sweep stopped half-way has whole tables of the first seeds."""
    grid = product(sweep.seeds, sweep.data, sweep.recipes)
    made = [make_job(entry.name, ask(sweep, entry, data, seed), out, cpu) for seed, data, entry in grid]
    refuse_shared_folders(made)
    return made


def ask(sweep: SweepFile, entry: Entry, data: str, seed: int) -> Asked:
    """What a run of the grid asks for. An entry's settings go before those of all; own methods under a
    recipe's name train as the recipe does.
    """
    training: dict[str, Any] = {}
    protocol, per_task = entry.protocol or sweep.protocol, sweep.per_task
    video = entry.video or sweep.video
    if entry.methods is not None and entry.recipe is not None:
        video = video or video_of(entry.recipe)
    if entry.methods is not None and entry.recipe is not None and protocol is None:
        protocol, per_task = recipe_named(entry.recipe).protocol, False
        training = trained_as(entry.recipe, {**sweep.training, **entry.training})
    methods = entry.methods or ("Linear()",)  # an empty list trains the classifier alone
    return Asked(
        model=sweep.model,
        pretrained=sweep.pretrained or None,
        weights=sweep.weights,
        image_size=sweep.image_size,
        in_chans=sweep.in_chans,
        patch_size=sweep.patch_size,
        video=video,
        data=data,
        root=sweep.root,
        recipe=entry.recipe if entry.methods is None else None,
        methods=None if entry.methods is None else methods,
        protocol=protocol,
        per_task=per_task if protocol else None,
        training={**training, **sweep.training, **entry.training, "seed": seed},
    )


def trained_as(recipe: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in which a recipe trains other than the protocol it names, where some are `given`: length
    and rate are chosen as they are for the recipe.
    """
    found = recipe_named(recipe)
    theirs = find_protocol(found.protocol).training.to_json()
    own = {name: value for name, value in found.training.to_json().items() if value != theirs[name]}
    own |= for_epochs(found.training, given.get("epochs"), given)
    return {**own, **dict.fromkeys(CAN_BE_OPEN, AUTO)}  # what is given comes over it


def video_of(recipe: str) -> str | None:
    """How a recipe makes one answer of a clip's frames; None for what is about images."""
    video = recipe_named(recipe).video
    return None if video is None else repr(video)


def make_job(name: str, asked: Asked, out: Path, cpu: bool) -> Job:
    place = Path(slug(name)) / slug(task_name(str(asked.data))) / f"seed-{asked.training_changes()['seed']}"
    flat = "--".join(place.parts)
    return Job(name, asked, out / "runs" / place, out / "logs" / f"{flat}.log", out / "locks" / flat, cpu)


def task_name(data: str) -> str:
    """eurosat for vtab:eurosat; other specs as they are."""
    return data.removeprefix("vtab:")


def slug(text: str) -> str:
    """Letters and digits of a text, for a file name; long ones are cut and told apart by a digest."""
    name = (
        "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in text).strip("-.") or "run"
    )
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{sha256(text.encode()).hexdigest()[:8]}"


def refuse_shared_folders(made: Sequence[Job]) -> None:
    first: dict[str, Job] = {}
    for job in made:
        other = first.setdefault(str(job.folder).lower(), job)
        if other is not job:
            raise ValueError(
                f"{other.title} and {job.title} would both be written to {job.folder}; rename one of them"
            )


def listing(made: Sequence[Job], out: Path) -> list[Mapping[str, object]]:
    """Names and places of the runs, for the sweep's record."""
    return [
        {
            "name": job.name,
            "data": job.data,
            "seed": job.seed,
            "folder": job.folder.relative_to(out).as_posix(),
        }
        for job in made
    ]
