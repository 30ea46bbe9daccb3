"""Verbs on a video run: the report shows strips of frames, what is about single images says so in a sentence,
files of image and video models are told apart.
"""

import copy

import numpy
import pytest
import torch
from clips import clips_for, small_clips
from drawn_clips import moving_square
from golden import assert_close
from toys import toy

import vitrim
from vitrim import EViT, LoRA, ToMe, Video, VideoModel, compose, load, save, swap
from vitrim.cli.main import main
from vitrim.files.variants import load_part
from vitrim.report.maps.strips import first_frames, map_strip, pictures_of
from vitrim.report.maps.tokens import token_map
from vitrim.report.page import write_report
from vitrim.report.traced import trace

pytestmark = pytest.mark.usefixtures("short_measuring")

VIDEO = Video(frames=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on drawn clips that reduces tokens and learned nothing yet."""
    folder = tmp_path_factory.mktemp("clips")
    for name, label in (("down", 4), ("right", 0)):
        (folder / name).mkdir()
        for start in range(6):
            numpy.save(folder / name / f"{start}.npy", moving_square(label, start))
    backbone = toy(depth=2, patch_size=8).float()
    place = tmp_path_factory.mktemp("runs") / "run"
    return vitrim.train(
        backbone, f"video-folder:{folder}?frames=3&stride=2&views=2&seed=0", out=place,
        methods=["LoRA(rank=2)", "EViT(keep=0.5, at=(0,))"], cpu=True, quiet=True,
        training={"epochs": 1, "batch_size": 4, "augment": "none"},
    )  # fmt: skip


def test_maps_of_a_clip_are_those_of_its_frames_side_by_side():
    model = small_clips(VIDEO, EViT(keep=0.5, at=(1,)))
    clips = clips_for(model)[:, None]  # [B, 1, C, T, height, width]
    traced = trace(model, clips)
    assert traced.frames == 3
    with torch.no_grad():
        assert_close(traced.logits, model(clips), 1e-12)
    (strip, _) = pictures_of(model, clips)
    frames = first_frames(clips)
    assert strip.shape == (32, 96, 3) and frames.shape == (6, 3, 32, 32)
    (block,) = traced.shortening
    alone = [token_map(strip[:, 32 * i : 32 * i + 32], block, i, traced.grid) for i in range(3)]
    together = map_strip(alone)
    assert together.fate.shape == (8, 24) and together.picture.shape == strip.shape
    assert "192 patches in 3 frames (tokens left in each: 33 33 33)" in together.words
    assert len(set(together.group.ravel().tolist())) == 99


def test_views_beyond_the_first_count_in_what_is_said():
    model = small_clips(VIDEO, ToMe(r=4, at=(1,)))
    views = clips_for(model, batch=2)[None]
    with torch.no_grad():
        assert_close(trace(model, views).logits, model(views), 1e-12)
    assert len(trace(model, views).blocks[0].fate) == 3


def test_the_report_of_a_video_run_shows_strips(run, tmp_path):
    page = write_report([_with_backbone(run, tmp_path)], tmp_path / "report.html").read_text()
    assert "in 3 frames (tokens left in each: 9 9 9)" in page
    assert 'class="samples strips"' in page
    assert "for one clip, as executed" in page and "for one image" not in page
    assert "test clips" in page and "test images" not in page


def _with_backbone(run, folder):
    """The run with its backbone inside, since a module cannot be found again."""
    import shutil

    place = folder / "run"
    shutil.copytree(run.folder, place)
    save(run.model, place / "model.safetensors", include_backbone=True)
    return place


@pytest.mark.parametrize("verb", [
    ["explain", "RUN", "one.png", "--out", "there"], ["export", "RUN", "--to", "onnx", "--out", "x.onnx"],
    ["prune", "RUN", "--out", "there"], ["export", "RUN", "--to", "timm", "--out", "x.safetensors"],
])  # fmt: skip
def test_what_is_about_images_says_so(verb, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = str(_with_backbone(run, tmp_path))
    assert main([place if word == "RUN" else word for word in verb]) == 2
    said = capsys.readouterr().err
    assert "is for images, and this is a video model, which takes clips of 3 frames" in said
    assert said.count("\n") == 1


def test_files_are_swapped_between_video_models_alone(tmp_path):
    models = [small_clips(VIDEO, LoRA(rank=rank)) for rank in (2, 3)]
    models[1].clip_pool.query.data += 1.0
    for number, model in enumerate(models):
        save(model, tmp_path / f"{number}.safetensors")
    clips, expected = clips_for(models[0]), [model(clips_for(model)).detach() for model in models]
    model = load(tmp_path / "0.safetensors", backbone=toy(depth=3))
    for number in (1, 0):
        swap(model, tmp_path / f"{number}.safetensors")
        assert_close(model(clips).detach(), expected[number], 1e-12)
    save(compose(toy(depth=3), LoRA(rank=2)), tmp_path / "image.safetensors")
    with pytest.raises(ValueError, match="holds an image model; load the file"):
        swap(model, tmp_path / "image.safetensors")
    with pytest.raises(ValueError, match=r"the model is an image model and '0\.safetensors' holds Video"):
        swap(compose(toy(depth=3)), tmp_path / "0.safetensors")


def test_parts_of_a_video_model_are_video_models(tmp_path):
    model = compose("vit_tiny_patch16_224", LoRA(rank=2), EViT(keep=0.5, at=(3,)), image_size=32, video=VIDEO)
    save(model, tmp_path / "model.safetensors")
    for part in ("backbone", "reducers", "tuners"):
        found = load_part(tmp_path / "model.safetensors", part)
        assert isinstance(found, VideoModel) and found.frames == 3


def test_a_video_model_is_timed_beside_the_plain_one_on_clips():
    from vitrim.measuring.bench import bench

    model = small_clips(VIDEO, LoRA(rank=2)).float()
    names = [speed.name for speed in bench(copy.deepcopy(model), batch_size=1, rounds=3, device="cpu")]
    assert names == ["plain backbone", "as trained", "folded"]
