"""What the model sees: size, statistics, window, and that loader processes can be sent the transform."""

import pickle
import random
from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from vitrim.backbones.preprocess import Preprocess
from vitrim.data import Split, read_image
from vitrim.data.transforms import AUGMENTATIONS, eval_transform, train_transform

PLAIN = Preprocess(image_size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
IMAGENET = replace(PLAIN, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def picture(size=(90, 60)) -> Image.Image:
    pixels = numpy.random.default_rng(0).integers(0, 255, (size[1] // 5, size[0] // 5, 3), numpy.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def seeded(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)


def test_evaluation_resizes_the_whole_image_and_normalises():
    seen = eval_transform(IMAGENET)(picture())
    whole = numpy.asarray(picture().resize((32, 32), Image.Resampling.BICUBIC)) / 255
    expected = (whole - IMAGENET.mean) / IMAGENET.std
    assert seen.dtype == torch.float32
    numpy.testing.assert_allclose(seen.permute(1, 2, 0).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", [(90, 60), (50, 120), (20, 20)])
def test_with_crop_the_window_is_timms(size, interpolation, shape):
    ours = eval_transform(replace(IMAGENET, image_size=size, crop=0.9, interpolation=interpolation))
    timms = create_transform(
        (3, *size), interpolation=interpolation, crop_pct=0.9, mean=IMAGENET.mean, std=IMAGENET.std
    )
    assert ours(picture(shape)).shape == (3, *size)
    assert torch.equal(ours(picture(shape)), timms(picture(shape)))


@pytest.mark.parametrize("crop", [1.0, 0.8])
def test_no_augmentation_is_the_evaluation_view_and_flip_mirrors_it(crop):
    preprocess = replace(PLAIN, crop=crop)
    view = eval_transform(preprocess)(picture())
    assert torch.equal(train_transform(preprocess, "none")(picture()), view)
    seeded(0)
    flipped = [train_transform(preprocess, "flip")(picture()) for _ in range(20)]
    mirrored = [torch.equal(image, view.flip(-1)) for image in flipped]
    assert all(mirror or torch.equal(image, view) for mirror, image in zip(mirrored, flipped, strict=True))
    assert 3 < sum(mirrored) < 17


@pytest.mark.parametrize("augment", ["crop", "rand"])
def test_random_augmentations_vary_and_repeat_with_the_seed(augment):
    transform = train_transform(PLAIN, augment)
    seeded(1)
    first = [transform(picture()) for _ in range(4)]
    assert all(image.shape == (3, 32, 32) for image in first)
    assert not torch.equal(first[0], first[1])
    seeded(1)
    assert all(torch.equal(image, transform(picture())) for image in first)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_grey_models_get_one_channel_of_luminance(augment):
    grey = Preprocess(image_size=(16, 24), mean=(0.5,), std=(0.25,), channels=1)
    seeded(0)
    assert train_transform(grey, augment)(picture()).shape == (1, 16, 24)
    green = eval_transform(grey)(Image.new("RGB", (9, 9), (0, 255, 0)))
    numpy.testing.assert_allclose(green.numpy(), (0.587 - 0.5) / 0.25, atol=0.01)


def test_three_statistics_are_averaged_for_a_grey_model():
    grey = replace(IMAGENET, channels=1)
    black = eval_transform(grey)(Image.new("RGB", (9, 9)))
    expected = -numpy.mean(IMAGENET.mean) / numpy.mean(IMAGENET.std)
    numpy.testing.assert_allclose(black.numpy(), expected, rtol=1e-5)


def test_an_image_that_is_not_rgb_is_made_rgb():
    assert eval_transform(PLAIN)(Image.new("L", (9, 9), 255)).mean() == 1


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_transforms_travel_to_other_processes(augment):
    transform = train_transform(PLAIN, augment)
    copy = pickle.loads(pickle.dumps(transform))
    seeded(2)
    here = transform(picture())
    seeded(2)
    assert torch.equal(copy(picture()), here)


def test_a_transformed_split_gives_tensors_and_reads_large_jpegs_fast(tmp_path):
    picture((900, 600)).save(tmp_path / "a.jpg", quality=95)
    split = Split(read_image, [str(tmp_path / "a.jpg")], [3])
    fast, label = split.with_transform(eval_transform(PLAIN))[0]
    slow = eval_transform(PLAIN)(split[0][0])
    assert label == 3 and len(split.with_transform(eval_transform(PLAIN))) == 1
    assert not torch.equal(fast, slow)  # decoded at a smaller size
    assert (fast - slow).abs().mean() < 0.02  # of values from -1 to 1
    same, _ = split.with_transform(eval_transform(PLAIN).steps)[0]
    assert torch.equal(same, slow)  # any callable will do


@pytest.mark.parametrize("side, decoded", [(1900, 950), (1800, 1800), (200, 200)])
def test_random_crops_of_large_files_keep_the_pixels_the_model_sees(tmp_path, side, decoded):
    """The narrow side of the smallest crop is 0.245 of the image's: 914 pixels give 224."""
    Image.new("RGB", (side, side)).save(tmp_path / "a.jpg")
    transform = train_transform(Preprocess((224, 224), PLAIN.mean, PLAIN.std), "crop")
    assert read_image(tmp_path / "a.jpg", transform.at_least).size == (decoded, decoded)
