"""Unreadable images: replaced and counted in training up to a limit, refused by name in evaluation."""

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from PIL import Image

from vitrim.data import ImageError, Split, open_data, read_image
from vitrim.data.tolerance import TolerantImages
from vitrim.runs.evaluate import evaluate
from vitrim.training.loop import train

SMALL = {"epochs": 2, "batch_size": 4, "drop_last": False, "warmup_epochs": 0}


@pytest.fixture
def pictures(tmp_path):
    """8 + 4 + 4 images in two classes, one of each split cut short."""
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for label, name in enumerate(("ant", "bee")):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (16, 16), (255 * label, 60 * index, 0)).save(folder / f"{index}.png")
    return tmp_path / "pictures"


@contextmanager
def refused(sentence: str) -> Iterator[pytest.ExceptionInfo[ImageError]]:
    """As pytest.raises; lets go of the loader, whose processes would keep the garbage collector waiting."""
    with pytest.raises(ImageError, match=sentence) as error:
        yield error
    traceback.clear_frames(error.tb)


def spoil(file) -> str:
    file.write_bytes(file.read_bytes()[:50])
    return str(file)


def grey(image) -> torch.Tensor:
    return torch.tensor(image.getpixel((0, 0)))


def run(pictures, out, **settings):
    return train("test_vit", f"folder:{pictures}", methods=[], out=out, training=SMALL | settings, quiet=True)


def test_training_replaces_counts_and_names_them_with_any_number_of_workers(pictures, tmp_path):
    bad = spoil(pictures / "train" / "bee" / "2.png")
    losses = []
    for workers in (0, 2):
        finished = run(pictures, tmp_path / f"{workers}", workers=workers)
        assert finished.record["bad_images"] == [bad]
        rows = map(json.loads, (tmp_path / f"{workers}" / "history.jsonl").read_text().splitlines())
        found = [(row["bad_images"], row["train_loss"]) for row in rows]
        assert [names for names, _ in found] == [[bad], [bad]]
        losses.append([loss for _, loss in found])
    assert losses[0] == losses[1]


def test_the_log_names_them(pictures, tmp_path, capsys):
    bad = spoil(pictures / "train" / "bee" / "2.png")
    train("test_vit", f"folder:{pictures}", methods=[], out=tmp_path / "run", training=SMALL)
    assert f"1 unreadable replaced ({bad})" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize("workers", [0, 2])
def test_past_the_limit_training_stops_in_one_sentence(pictures, tmp_path, workers):
    bad = {spoil(pictures / "train" / "bee" / f"{index}.png") for index in range(3)}
    with refused(r"bad_images allows 2; vitrim data '.*' --check lists all") as error:
        run(pictures, tmp_path / "run", workers=workers, bad_images=2)
    assert "\n" not in str(error.value)
    assert all(name in str(error.value) for name in bad)


def test_which_image_takes_the_place_depends_on_seed_and_index_alone(pictures):
    spoil(pictures / "train" / "bee" / "2.png")
    images = open_data(f"folder:{pictures}").split("train").with_transform(grey)

    def replacement(seed: int):
        value, label = TolerantImages(images, "folder:x", limit=1, seed=seed)[6]
        return (*value.tolist(), label)

    assert replacement(1) == replacement(1)
    assert len({replacement(seed) for seed in range(20)}) > 2


def test_nothing_readable_at_all_stops_as_well(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    images = Split(read_image, [str(tmp_path / "a.png")], [0]).with_transform(grey)
    with refused("cannot be read"):
        TolerantImages(images, "folder:x", limit=5, seed=0)[0]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_refuses_by_name(pictures, tmp_path, split, workers):
    bad = spoil(pictures / split / "ant" / "1.png")
    with refused("is damaged or cut short") as error:
        run(pictures, tmp_path / "run", workers=workers)
    assert str(error.value).startswith(bad) and "\n" not in str(error.value)


def test_evaluate_alone_names_a_missing_file(pictures, tmp_path):
    finished = run(pictures, tmp_path / "run", epochs=1)
    source = open_data(f"folder:{pictures}")
    (pictures / "test" / "ant" / "0.png").unlink()
    with refused(r"there is no image .*0\.png") as error:
        evaluate(finished.model, source, workers=1)
    assert isinstance(error.value, FileNotFoundError)
