"""The bundled digits: real images, a split that never moves, safe to send to loader processes."""

import pickle

import numpy
from sklearn.datasets import load_digits

from vitrim.data import describe, open_data


def test_sizes_classes_and_disjoint_splits():
    data = open_data("digits")
    assert data.classes == tuple("0123456789")
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 800,
        "val": 200,
        "trainval": 1000,
        "test": 797,
    }
    train, val, test = (set(data.split(name).names) for name in ("train", "val", "test"))
    assert len(train | val | test) == 1797
    assert set(data.split("trainval").names) == train | val
    for name, each in (("train", 80), ("val", 20)):
        assert numpy.bincount(data.split(name).labels).tolist() == [each] * 10


def test_the_split_is_the_same_for_ever_and_for_every_seed():
    data = open_data("digits", seed=5)
    assert data.split("test").names == open_data("digits").split("test").names
    assert data.split("train").names[:5] == ("0", "4", "6", "10", "14")
    assert data.split("val").names[:5] == ("9", "11", "12", "13", "21")


def test_images_and_labels_are_those_of_the_bundle():
    bundle = load_digits()
    val = open_data("digits").split("val")
    for index in (0, 57, 199):
        image, label = val[index]
        original = int(val.names[index])
        assert (image.mode, image.size, label) == ("RGB", (8, 8), bundle.target[original])
        levels = numpy.asarray(image)[..., 0] / 255 * 16
        numpy.testing.assert_allclose(levels, bundle.images[original], atol=0.04)
    assert max(numpy.asarray(val[index][0]).max() for index in range(20)) == 255


def test_a_split_travels_to_another_process_without_its_pixels():
    val = open_data("digits").split("val")
    text = pickle.dumps(val)
    assert len(text) < 10_000
    assert pickle.loads(text)[3][0].tobytes() == val[3][0].tobytes()


def test_iterating_ends():
    assert len(list(open_data("digits").split("val"))) == 200


def test_describe_shows_sizes_and_classes():
    text = describe(open_data("digits"))
    assert "digits: 10 classes (0, 1, 2" in text
    assert "train        800 images, 80 per class" in text
    assert "test" in text and "797 images, 74 to 83 per class" in text
