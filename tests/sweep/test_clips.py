"""A sweep over clips: how frames become one answer is said for all runs or for one row, and a sweep that was
stopped goes on."""

from pathlib import Path

import numpy
import pytest
from drawn_clips import moving_square

from vitrim.cli.main import main
from vitrim.settings.run_plan import Asked, settle_plan
from vitrim.sweep import search
from vitrim.sweep.checking import check
from vitrim.sweep.file import make_sweep
from vitrim.sweep.grid import Job, jobs
from vitrim.sweep.varied import Candidate

MEAN = "Video(pool='mean_cls', temporal_embed='none')"


def asked_video(job: Job) -> str | None:
    return settle_plan(job.asked).video


@pytest.fixture
def made(tmp_path: Path) -> list[Job]:
    for name, label in (("down", 4), ("right", 0)):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for start in range(4):
            numpy.save(tmp_path / "clips" / name / f"{start}.npy", moving_square(label, start))
    own = {"name": "own", "methods": ["BitFit()"]}
    asked = {
        "data": f"video-folder:{tmp_path / 'clips'}?frames=2&stride=2&seed=0",
        "recipes": [own, {**own, "name": "mean", "video": "Video(pool='mean_cls')"}],
        "image_size": 32,
        "training": {"epochs": 1, "batch_size": 4, "workers": 0, "augment": "none"},
    }
    return jobs(make_sweep(asked), tmp_path / "out", cpu=True)


def test_a_sweep_over_clips_goes_on_where_it_was(made: list[Job]) -> None:
    check(made)
    assert [asked_video(job) for job in made] == [None, MEAN]
    assert f"--video={MEAN}" in made[1].command(resume=False)
    assert main(made[0].command(resume=False)[3:]) == 0  # left open: the run writes what it took
    check(made)


def test_own_methods_pool_frames_as_the_recipe_they_name() -> None:
    named = {"data": ["digits"], "recipes": ["video-sparse-tuning", {"name": "x", "methods": ["LoRA()"]}]}
    named["recipes"].append({**named["recipes"][1], "name": "y", "recipe": "video-sparse-tuning"})
    recipe, plain, own = jobs(make_sweep(named), Path("out"))
    assert asked_video(recipe) == asked_video(own) != asked_video(plain) is None
    one = jobs(make_sweep({**named, "video": MEAN}), Path("out"))
    assert {asked_video(job) for job in one} == {MEAN}
    base = Asked(recipe="video-sparse-tuning", data="digits")
    assert settle_plan(search.ask(base, Candidate({}, (), {}), {})).video == asked_video(recipe)
