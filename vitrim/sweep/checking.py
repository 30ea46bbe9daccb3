"""What cannot work is refused before a sweep starts: recipes, methods, settings, data, models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.settings.run_plan import Asked, RunPlan, settle_plan
from vitrim.sweep.grid import Job
from vitrim.training.clips import video_for, with_video

if TYPE_CHECKING:
    from vitrim.data import DataSource


def open_for(plan: RunPlan, download: bool) -> DataSource:
    """The data of a plan; fetched here, where it may be, so that runs at the same time do not all do so."""
    from vitrim.data.spec import FETCHED, open_data

    fetched = download and plan.data.partition(":")[0] in FETCHED
    return open_data(plan.data, root=plan.root, download=fetched)


def check(made: Sequence[Job], download: bool = False) -> None:
    """Refuse what cannot work before anything runs: recipes, methods, settings, data, models."""
    from vitrim.backbones.shapes import shapes_only
    from vitrim.settings.run_plan import compose_asked

    opened: dict[str, DataSource] = {}
    composed: set[str] = set()
    for job in made:
        plan = settle_plan(job.asked)
        if plan.data not in opened:
            opened[plan.data] = open_for(plan, download)
            refuse_other_tasks(opened[plan.data])
        video = video_for(plan.video, opened[plan.data])
        shape = repr(
            (plan.methods, plan.model, plan.weights, plan.image_size, plan.in_chans, plan.patch_size, video)
        )
        if shape not in composed:
            with shapes_only():
                compose_asked(replace(without_weights(job.asked), video=video), num_classes=2)
            composed.add(shape)
        check_same(job, with_video(plan, opened[plan.data]))


def refuse_other_tasks(data: DataSource) -> None:
    """Sweeps, searches and their tables compare accuracies."""
    if data.task != "classify":
        raise ValueError(
            f"{data.spec} is a {data.task} task, but sweeps and searches compare accuracies, of images "
            "or clips of one class each; train such data run by run with vitrim train"
        )


def without_weights(asked: Asked) -> Asked:
    """The same model by name alone: its weights are looked for, but not read."""
    from vitrim.backbones.names import CHECKPOINT_ENDINGS, name_in_file

    model = asked.model
    file = asked.weights or (model if str(model).endswith(CHECKPOINT_ENDINGS) else None)
    if file is not None and not Path(file).is_file():
        raise FileNotFoundError(f"no weights file {str(file)!r}; give the path of the model's checkpoint")
    if asked.weights is None and file is not None:
        model = name_in_file(str(file))
    return replace(asked, model=model, weights=None, pretrained=None)


def check_same(job: Job, wanted: RunPlan) -> None:
    """Refuse a folder in which another run lies than the one asked for."""
    from vitrim.runs.folder import RunFolder, stored_plan

    if not (job.folder / "run.json").is_file():
        return
    chosen = RunFolder(job.folder).record().get("chosen") or {}
    stored = stored_plan(job.folder)
    before, now = _values(stored), _values(wanted)
    for name in wanted.left_open:  # chosen when a run starts, by its data: the same as long as it was chosen
        for chose in (name, *(FOLLOWING if name == "epochs" else ())):
            now[chose] = before[chose] if name in chosen else "auto"
    for name, value in now.items():
        if before.get(name) != value:
            raise ValueError(
                f"{job.folder} holds another run than the one asked for: it was started with "
                f"{name}={before.get(name)!r}, and the sweep now says {value!r}; choose another out, or "
                "remove that folder to make the run anew"
            )


FOLLOWING = ("warmup_epochs", "cooldown_epochs")  # which are shortened with a run of chosen length


def _values(plan: RunPlan) -> dict[str, Any]:
    """All that decides a run, where its files lie included, by name."""
    values = plan.to_json()
    training = values.pop("training")
    return {**values, **training}
