"""The command on segmentation: train, resume, evaluate, predict, report; refusals name the option."""

import json
from pathlib import Path

import numpy
import pytest
from PIL import Image

from vitrim.cli.main import main
from vitrim.data.kinds import MASK_KINDS
from vitrim.dense.spec import DENSE_KINDS

pytestmark = pytest.mark.usefixtures("short_measuring")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose left is red and labelled so, and a run on them."""
    place = tmp_path_factory.mktemp("halves")
    random = numpy.random.default_rng(0)
    for name in ("images", "masks"):
        (place / name).mkdir()
    for number in range(10):
        labels = numpy.zeros((24, 40), dtype=numpy.uint8)
        labels[:, : random.integers(10, 30)] = 1
        pixels = numpy.array([(40, 40, 40), (230, 40, 40)])[labels] + random.integers(0, 20, (24, 40, 3))
        Image.fromarray(pixels.astype(numpy.uint8)).save(place / "images" / f"{number}.png")
        Image.fromarray(labels).save(place / "masks" / f"{number}.png")
    options = ["--data", f"seg:{place}?classes=ground,red", "--model", "test_vit", "--image_size", "48"]
    options += ["--method", "EViT(keep=0.7, at=(2,))", "--epochs", "2", "--batch_size", "4", "--lr", "0.02"]
    assert not main(["train", *options, "--out", str(place / "run"), "--cpu"])
    return place


def test_a_run_is_evaluated_asked_and_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, csv = str(place / "run"), place / "classes.csv"
    assert not main(["evaluate", run, "--cpu", "--json", "--unreduced", "--per_class", str(csv)])
    told = json.loads(capsys.readouterr().out)
    assert told["task"] == "segment" and {part["name"] for part in told["per_region"]} == {"ground", "red"}
    assert told["agreement"] > 0 and csv.read_text().splitlines()[0].startswith("name,iou,accuracy")
    assert not main(["evaluate", run, "--cpu", "--split", "val", "--inference", "whole"])
    assert capsys.readouterr().out.startswith("val: mIoU ")
    out = place / "masks-out"
    assert not main(["predict", run, str(place / "images"), "--out", str(out), "--overlay", "--polygons"])
    assert len(list(out.glob("*-overlay.png"))) == 10 == len(list(out.glob("*.json")))
    assert Image.open(out / "3.png").size == (40, 24)
    assert not main(["report", run])
    page = (place / "run" / "report.html").read_text()
    assert "EViT" in page and page.count("wrong (red)") >= 2 and "boundary IoU" in page


def test_what_is_not_of_masks_is_refused_by_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(place / "run")
    for given, words in (
        (["predict", run, str(place / "images")], "give --out FOLDER"),
        (["predict", run, str(place / "images"), "--csv", "-"], "--csv has no meaning for segmentation"),
        (
            ["predict", run, "x.png", "--out", "y", "--native", "16"],
            "--native has no meaning for segmentation",
        ),
        (["evaluate", run, "--confusion", "a.csv"], "--confusion has no meaning for segmentation"),
        (["evaluate", run, "--worst", "2"], "--worst has no meaning for segmentation"),
        (["evaluate", run, "--k_test", "5"], "--k_test has no meaning for segmentation"),
        (["train", "--data", "seg:x", "--video", "Video()"], "--video has no meaning for segmentation"),
        (["evaluate", run, "--data", "digits"], "tells classes of pixels apart, not of whole pictures"),
        (["export", run, "--out", str(place / "a.onnx")], "tells classes of pixels apart"),
        (["train", "--data", "digits", "--taps", "[1]"], "--taps is of segmentation"),
        (["train", "--data", "seg:x", "--task", "classify"], "its task is segment, not classify"),
        (["train", "--task", "segment", "--data", "digits"], "kind of segmentation data"),
        (["search", "--data", "seg:x"], "is segmentation data, which vitrim train --task segment takes"),
        (["train", "--resume", "--out", run, "--lr", "0.5"], "was started with lr=0.02"),
    ):
        assert main(given) == 2, given
        assert words in capsys.readouterr().err, given


def test_kinds_with_masks_are_known_by_name_without_their_openers() -> None:
    assert list(MASK_KINDS) == list(DENSE_KINDS)
