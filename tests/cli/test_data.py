"""`vitrim data`: the summary, the check of every image, the contact sheet, the lists it writes."""

import shutil

import archives
import numpy
import pytest
from archives import picture
from PIL import Image

from vitrim.cli.main import main
from vitrim.data import DataSource, Split, open_data, read_image
from vitrim.data.checking import decode, findings


@pytest.fixture
def pictures(tmp_path):
    for truth, (name, count) in enumerate((("ant", 20), ("bee", 10))):
        for index in range(count):
            file = picture(tmp_path / "pictures" / name / f"{index}.png", truth)
            image = Image.open(file).convert("RGB")
            image.putpixel((0, 0), (index, truth, 7))
            image.save(file)
    return tmp_path / "pictures"


def test_summary(pictures, capsys):
    assert main(["data", f"folder:{pictures}", "--seed", "3"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == [f"folder:{pictures}?seed=3:", "2", "classes"]
    assert ["train", "21", "7", "to", "14", "10.5", "0"] in lines
    assert ["ant", "14", "2", "16", "4", "█" * 24] in lines and ["bee", "7", "1", "8", "2", "█" * 12] in lines
    assert "image size 8 x 8 (30 images looked at)" in [" ".join(line) for line in lines]


def test_published_sizes_are_compared(tmp_path, capsys):
    archives.noah(tmp_path / "svhn")
    assert main(["data", "vtab:svhn", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "26,032 differs" in out and "test has 4 images where VTAB-1k has 26,032" in out
    assert "train has no image of 8 of the 10 classes: 2, 3, 4, 5, 6 and 3 more" in out


def test_check_lists_every_broken_image_and_ends_with_2(pictures, capsys):
    bad = [pictures / "ant" / f"{index}.png" for index in (1, 5, 17)]
    bad[0].write_bytes(b"")
    bad[1].write_bytes(bad[1].read_bytes()[:40])
    bad[2].write_text("no image")
    assert main(["data", f"folder:{pictures}", "--check"]) == 2
    found = capsys.readouterr()
    assert all(f"broken: {file} is " in found.out for file in bad)
    assert "3 of 30 images cannot be read; they are listed above" in found.err


def test_check_of_sound_data(pictures, capsys):
    assert main(["data", f"folder:{pictures}", "--check"]) == 0
    assert "all 30 images can be read" in capsys.readouterr().out


def test_the_same_picture_in_train_and_test_is_found(pictures):
    shutil.copy(pictures / "ant" / "0.png", pictures / "ant" / "copy.png")
    found = [decode(open_data(f"folder:{pictures}", seed=seed), every=True).repeated for seed in range(8)]
    assert {frozenset(pair) for repeated in found for pair in repeated} == {
        frozenset(str(pictures / "ant" / name) for name in ("0.png", "copy.png"))
    }


def test_lists_that_contradict_themselves(tmp_path, capsys):
    archives.noah(tmp_path / "svhn")
    file = tmp_path / "svhn" / "train800val200.txt"
    file.write_text(file.read_text().replace("000000.jpg 0", "000000.jpg 5"))
    assert main(["data", "vtab:svhn", "--root", str(tmp_path)]) == 2
    assert "trainval carries other labels than train and val together" in capsys.readouterr().err


def test_an_image_in_two_splits_and_a_label_too_high():
    train, test = Split(read_image, ["a", "b"], [0, 1]), Split(read_image, ["b", "c"], [0, 2])
    wrong, worth = findings(DataSource("x", ("p", "q"), {"train": train, "test": test}))
    assert wrong == ["test has labels from 0 to 2, but there are 2 classes"]
    assert worth == ["1 images are in train and in test: b"]


@pytest.mark.parametrize("asked", [["--sheet"], ["--sheet", "sub/mine.png"]])
def test_contact_sheet(pictures, tmp_path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)
    (pictures / "bee" / "3.png").write_bytes(b"")
    main(["data", "folder:pictures", *asked])
    file = tmp_path / (asked[1] if len(asked) > 1 else "folder-pictures-seed-0.png")
    pixels = numpy.asarray(Image.open(file).convert("RGB")).reshape(-1, 3)
    for colour in ((0, 90, 90), (archives.STEP, 90, 90)):  # pictures of both classes are on it
        assert (pixels == colour).all(1).sum() > 5000


def test_a_sheet_that_cannot_be_written(pictures, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert main(["data", f"folder:{pictures}", "--sheet", str(tmp_path / "file" / "a.png")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_written_lists_open_as_the_same_data(pictures, tmp_path, capsys):
    spec = f"fewshot:{pictures}?shots=3&seed=2"
    drawn = open_data(spec)
    for folder in (tmp_path / "elsewhere", pictures):
        assert main(["data", spec, "--write_lists", str(folder)]) == 0
        first = (folder / "annotations" / "train_meta.list.num_shot_3.seed_2").read_text().splitlines()[0]
        assert first.startswith("ant/" if folder == pictures else str(pictures))
    read = open_data(f"fewshot:{tmp_path / 'elsewhere'}?shots=3&seed=2")
    for name, split in drawn.splits.items():
        assert [*zip(read.splits[name].names, read.splits[name].labels, strict=True)] == [
            *zip(split.names, split.labels, strict=True)
        ]
    assert read.classes == ("ant", "bee")
    assert main(["data", spec, "--write_lists", str(tmp_path / "elsewhere")]) == 0  # the same lists again
    (tmp_path / "elsewhere" / "annotations" / "val_meta.list").write_text("other 0\n")
    capsys.readouterr()
    more = f"fewshot:folder:{pictures}?shots=4&seed=2"
    assert main(["data", more, "--write_lists", str(pictures)]) == 0  # beside the lists of fewer shots
    assert main(["data", more, "--write_lists", str(tmp_path / "elsewhere")]) == 2
    assert "val_meta.list is there with other content; choose another folder" in capsys.readouterr().err


def test_lists_are_for_few_shot_sets_of_files(pictures, capsys):
    assert main(["data", f"folder:{pictures}", "--write_lists", "x"]) == 2
    assert "use fewshot:FOLDER?shots=4&seed=1" in capsys.readouterr().err
