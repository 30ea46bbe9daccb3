"""Training on clips from start to end: what is recorded, what resumes, and what is refused before a folder
exists.
"""

import json

import pytest
import torch
from drawn_clips import moving_square
from small_runs import same, toy_vit, weights

import vitrim
from vitrim import VideoModel, train
from vitrim.runs.opening import open_model

METHODS = ("DyT(width=2)", "EViT(keep=0.7, at=(1,))")
SETTINGS = {"epochs": 2, "batch_size": 8, "lr": 3e-3, "augment": "none"}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """Squares that move right or down, eight clips of each, as arrays."""
    import numpy

    folder = tmp_path_factory.mktemp("clips")
    for name, label in (("down", 4), ("right", 0)):
        (folder / name).mkdir()
        for start in range(10):
            numpy.save(folder / name / f"{start}.npy", moving_square(label, start))
    return f"video-folder:{folder}?frames=4&stride=2&seed=0"


def small(spec, out, **changes):
    asked = {"methods": METHODS, "training": SETTINGS, **changes}
    return train(toy_vit(), spec, **asked, out=out, cpu=True, quiet=True)


@pytest.fixture(scope="module")
def run(spec, tmp_path_factory):
    video = "Video(temporal_embed='learned')"
    return small(spec, tmp_path_factory.mktemp("runs") / "run", video=video)


def test_a_run_says_what_it_was_and_its_file_holds_the_video_model(run, spec):
    settings = run.record["settings"]
    assert settings["video"] == "Video(pool='attentive', temporal_embed='learned')"
    assert run.record["costs"]["frames"] == 4 and run.record["costs"]["trained_pooling"] > 0
    assert run.record["costs"]["plain"]["gmacs"] > run.record["costs"]["gmacs"]
    model = open_model(run.folder)
    assert isinstance(model, VideoModel) and model.frames == 4
    assert model.times is not None and model.times.table.abs().sum() > 0
    with torch.no_grad():
        assert model(torch.zeros(1, 2, 3, 4, 32, 32)).shape == (1, 2)


def test_a_stopped_run_goes_on_and_ends_with_the_same_weights(run, spec, tmp_path, monkeypatch):
    from vitrim.training import passes

    kept = passes.keep_epoch

    def stop(*given):
        kept(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(passes, "keep_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        small(spec, tmp_path / "run", video="Video(temporal_embed='learned')")
    monkeypatch.setattr(passes, "keep_epoch", kept)
    with pytest.raises(ValueError, match="was started with video="):
        train(toy_vit(), out=tmp_path / "run", resume=True, video="Video()", cpu=True, quiet=True)
    again = train(toy_vit(), out=tmp_path / "run", resume=True, cpu=True, quiet=True)
    assert same(weights(again.folder), weights(run.folder))


def test_nothing_asked_for_is_dyt_s_video_model(spec, tmp_path):
    found = small(spec, tmp_path / "run", methods=(), training={**SETTINGS, "epochs": 1})
    assert found.record["settings"]["video"] == "Video(pool='attentive', temporal_embed='none')"
    longer = train(init=found.folder, model=toy_vit(), out=tmp_path / "longer", cpu=True, quiet=True,
                   training={**SETTINGS, "epochs": 1})  # fmt: skip
    assert longer.record["settings"]["video"] == found.record["settings"]["video"]


def test_clips_and_settings_have_to_fit(spec, tmp_path):
    with pytest.raises(ValueError, match=r"is for clips, but digits\S* has images"):
        train(toy_vit(), "digits", video="Video()", out=tmp_path / "run", cpu=True, quiet=True)
    with pytest.raises(ValueError, match=r"of 16 frames, but .* has clips of 4; .*frames=16"):
        small(spec, tmp_path / "run", video="Video(frames=16)")
    with pytest.raises(ValueError, match="pool must be one of"):
        small(spec, tmp_path / "run", video="Video(pool='max')")
    assert not (tmp_path / "run").exists()


def test_mixed_clips_have_the_same_box_in_every_frame():
    from vitrim.settings.training import Training
    from vitrim.training.mixup import make_mixup

    mix = make_mixup(Training(cutmix=1.0), classes=2)
    assert mix is not None
    clips = torch.stack([torch.zeros(3, 4, 16, 16), torch.ones(3, 4, 16, 16)])
    mixed, shares = mix(clips, torch.tensor([0, 1]))
    assert mixed.shape == (2, 3, 4, 16, 16) and shares.shape == (2, 2)
    assert torch.equal(mixed, mixed[:, :1, :1].expand_as(mixed))
    assert 0 < mixed[0].mean() < 1
    torch.testing.assert_close(mixed[0].mean(), shares[0, 1], atol=1e-4, rtol=0)


def test_evaluating_again_gives_the_recorded_figures(run):
    assert vitrim.evaluate(run.folder).top1 == pytest.approx(run.metrics.top1)
    assert json.loads((run.folder / "run.json").read_text())["results"]["top1"] == run.metrics.top1
