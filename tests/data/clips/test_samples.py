"""What loaders get: shapes, frames changed alike, the same again for the same seed, a crop for each view."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_clips import moving_square, write_frames
from PIL import Image

from vitrim.backbones.preprocess import Preprocess
from vitrim.data import DataSource, ImageError, Split
from vitrim.data.clips.indices import frame_indices
from vitrim.data.clips.reader import ClipReader
from vitrim.data.clips.sampling import ClipSampling
from vitrim.data.clips.transforms import JITTER, Covering, clip_transform
from vitrim.data.tolerance import TolerantImages
from vitrim.data.transforms import eval_transform
from vitrim.methods.selection.contrastive import TwoViews
from vitrim.runs.batches import RepeatableImages

PREPROCESS = Preprocess((24, 24), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
AUGMENTS = ("none", "flip", "shift", "crop", "rand", "k400", "ssv2")


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A clip of 12 equal frames of noise, 40 x 32: what differs between frames of a sample is our doing."""
    noise = np.random.default_rng(0).integers(0, 255, (1, 40, 32, 3), dtype=np.uint8)
    file = tmp_path_factory.mktemp("still") / "clip.npy"
    np.save(file, np.repeat(noise, 12, 0))
    return str(file)


def of(*names, **sampling):
    return Split(ClipReader(ClipSampling(**sampling)), list(names), list(range(len(names))))


@pytest.mark.parametrize("augment", AUGMENTS)
def test_all_frames_of_a_training_clip_are_changed_alike(still, augment):
    transform = clip_transform(PREPROCESS, augment, colour_jitter=0.4, erasing=0.9)
    samples = RepeatableImages(of(still, frames=5, stride=2).with_transform(transform), seed=3)
    clips = []
    for samples.epoch in (0, 1, 0):
        clip, label = samples[0]
        assert clip.shape == (3, 5, 24, 24) and label == 0 and clip.dtype == torch.float32
        assert torch.equal(clip, clip[:, :1].expand_as(clip))
        clips.append(clip)
    assert torch.equal(clips[0], clips[2]) and not torch.equal(clips[0], clips[1])


def test_training_frames_are_drawn_anew_each_epoch_and_the_same_again(tmp_path):
    folder = write_frames(tmp_path / "clip", moving_square(1, 3, count=12))
    split = of(str(folder), frames=3, stride=2)
    samples = RepeatableImages(split.with_transform(clip_transform(PREPROCESS, "none")), seed=0)
    seen = []
    for samples.epoch in range(8):
        seen.append(samples[0][0])
    samples.epoch = 2
    assert torch.equal(samples[0][0], seen[2])
    assert len({clip.numpy().tobytes() for clip in seen}) > 3


def test_pairs_of_random_views_become_pairs_of_clips(still):
    pair, _ = of(still, frames=2).with_transform(TwoViews(PREPROCESS))[0]
    assert [clip.shape for clip in pair] == [(3, 2, 24, 24)] * 2 and not torch.equal(*pair)


@pytest.mark.parametrize(("views", "crops"), [(1, 1), (3, 1), (2, 3)])
def test_evaluation_takes_all_views_in_order(tmp_path, views, crops):
    """Each view is exactly its frames, each crop its window of the covering frame."""
    frames = np.random.default_rng(1).integers(0, 255, (12, 30, 60, 3), dtype=np.uint8)
    np.save(tmp_path / "clip.npy", frames)
    split = of(str(tmp_path / "clip.npy"), frames=3, stride=2, views=views, crops=crops)
    clip, label = split.with_transform(eval_transform(PREPROCESS))[0]
    assert clip.shape == (views * crops, 3, 3, 24, 24) and label == 0
    for place in range(views * crops):
        view, crop = divmod(place, crops)
        left = 12 if crops == 1 else 12 * crop
        for step, number in enumerate(frame_indices(12, 3, 2, "test", view, views)):
            whole = Image.fromarray(frames[number]).resize((48, 24), Image.Resampling.BICUBIC)
            window = torch.tensor(np.asarray(whole)[:, left : left + 24] / 127.5 - 1, dtype=torch.float32)
            assert torch.allclose(clip[place, :, step], window.permute(2, 0, 1), atol=1e-6)


def test_crops_go_along_the_longer_side(tmp_path):
    upright = np.zeros((1, 60, 30, 3), np.uint8)
    upright[:, 40:] = 255  # the lower third
    np.save(tmp_path / "clip.npy", upright)
    clip, _ = of(str(tmp_path / "clip.npy"), frames=1, crops=3).with_transform(eval_transform(PREPROCESS))[0]
    means = clip.mean((1, 2, 3, 4))
    assert means[0] < -0.9 < means[1] < means[2] and means[2] > 0


def test_windows_of_crop_below_one_and_of_oblong_models():
    image = Image.new("RGB", (100, 50))
    assert Covering((24, 24), 1 / 0.75, 0, "bicubic")(image).size == (64, 32)
    assert Covering((24, 96), 1.0, 0, "bicubic")(image).size == (96, 48)
    sizes = {Covering((100, 100), 1.0, JITTER, "bicubic")(image).height for _ in range(60)}
    assert min(sizes) >= 100 and max(sizes) <= 115 and len(sizes) > 5


def test_ssv2_never_mirrors_and_k400_does(tmp_path):
    """A frame dark on the left: the brighter side of the training clips tells."""
    frame = np.zeros((1, 32, 32, 3), np.uint8)
    frame[:, :, 16:] = 255
    np.save(tmp_path / "clip.npy", frame)
    found = {}
    for augment in ("k400", "ssv2"):
        transform = clip_transform(replace(PREPROCESS, image_size=(32, 32)), augment)
        samples = RepeatableImages(of(str(tmp_path / "clip.npy"), frames=1).with_transform(transform), seed=0)
        sides = []
        for samples.epoch in range(12):
            clip = samples[0][0].mean((0, 1, 2))  # [width]
            sides.append((clip[-8:].mean() - clip[:8].mean()).item())
        found[augment] = sides
    assert min(found["k400"]) < -1 < 1 < max(found["k400"])
    assert (
        sum(found["ssv2"]) > 0 and sum(side < -1 for side in found["ssv2"]) <= 2
    )  # inverted colours at most


def test_one_channel_and_four():
    """Grey models see luminance; frames have no fourth channel."""
    grey = Preprocess((8, 8), (0.5,), (0.5,), channels=1)
    assert clip_transform(grey, "none")(Image.new("RGB", (8, 8))).shape == (1, 8, 8)
    with pytest.raises(ValueError, match="takes 4 channels but frames of videos"):
        clip_transform(replace(PREPROCESS, channels=4), "none")


def test_a_broken_clip_is_replaced_in_training_and_an_error_in_evaluation(still, tmp_path):
    (tmp_path / "bad.npy").write_bytes(b"no array")
    split = of(still, str(tmp_path / "bad.npy"), frames=2)
    tolerant = TolerantImages(split.with_transform(clip_transform(PREPROCESS, "none")), "video:x", 1, seed=0)
    assert tolerant[1][1] == 0 and tolerant.bad_names() == [str(tmp_path / "bad.npy")]
    evaluated = split.with_transform(eval_transform(PREPROCESS))
    with pytest.raises(ImageError, match=r"bad\.npy is damaged"):
        evaluated[1]
    evaluated.count_unread()
    clip, label = evaluated[1]
    assert clip.shape == (1, 3, 2, 24, 24) and not clip.any() and label == 1
    assert evaluated.unread.tolist() == [False, True]
    evaluated.stop_counting()
    with pytest.raises(ImageError):
        evaluated[1]


def test_a_source_of_images_has_no_clips(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    from vitrim.data import read_image

    source = DataSource("x", ("a",), {"train": Split(read_image, [str(tmp_path / "a.png")], [0])})
    assert source.clips is None and source.called == "images"
