"""A whole run on pictures of coloured discs and bars: it learns, survives a kill, is measured and asked."""

import json
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from toys import toy

import vitrim
from vitrim.dense.evaluating import measure, picture_logits, unreduced
from vitrim.dense.model import DenseModel
from vitrim.dense.predicting import polygons, segment, write_segmented
from vitrim.dense.saving import is_dense_model, load_dense, save_dense
from vitrim.dense.spec import open_dense_data
from vitrim.dense.training import is_dense_run, train_dense

COLOURS = {0: (90, 90, 90), 1: (220, 60, 60), 2: (60, 60, 220)}
SMALL = {
    "methods": ["LoRA(rank=2)", "EViT(keep=0.7, at=(2,))"],
    "training": {"epochs": 3, "batch_size": 4, "lr": 0.02, "augment": "flip", "workers": 0},
    "quiet": True,
    "cpu": True,
}


def backbone() -> torch.nn.Module:
    return toy(dtype=torch.float32, depth=4)


def paint(place: Path, count: int) -> Path:
    """A disc and a bar on textured ground, with a rim that has no class."""
    random = numpy.random.default_rng(0)
    rows, columns = numpy.mgrid[:40, :48]
    for name in ("images", "masks"):
        (place / name).mkdir(parents=True)
    for number in range(count):
        labels = numpy.zeros((40, 48), dtype=numpy.uint8)
        y, x = random.integers(10, 30, 2)
        distance = (rows - y) ** 2 + (columns - x) ** 2
        labels[:, (left := int(random.integers(0, 40))) : left + 8] = 2
        labels[distance < 81] = 1
        pixels = numpy.array([COLOURS[value] for value in range(3)])[labels] + random.integers(
            -30, 30, (40, 48, 3)
        )
        labels[(distance >= 81) & (distance < 100)] = 255
        Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8)).save(place / "images" / f"{number}.png")
        Image.fromarray(labels).save(place / "masks" / f"{number}.png")
    (place / "classes.txt").write_text("ground\ndisc\nbar\n")
    return place


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"seg:{paint(tmp_path_factory.mktemp('discs'), 12)}"


@pytest.fixture(scope="module")
def run(discs: str, tmp_path_factory: pytest.TempPathFactory):
    torch.manual_seed(0)
    return train_dense(backbone(), discs, out=tmp_path_factory.mktemp("runs") / "discs", **SMALL)


def test_a_run_says_what_it_did_and_its_file_gives_the_same(run, discs: str) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    results = record["results"]
    assert record["status"] == "finished" and record["data"]["task"] == "segment"
    assert [part["name"] for part in results["per_region"]] == ["ground", "disc", "bar"]
    assert results["miou"] > 0.35 and 0 < results["agreement"] <= 1 and results["relative_miou"] > 0.5
    assert record["costs"]["gmacs"] < record["costs"]["plain"]["gmacs"]
    losses = [
        json.loads(line)["train_loss"] for line in (run.folder / "history.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < losses[0] and is_dense_run(run.folder) and is_dense_model(run.folder)
    model = load_dense(run.folder)
    image, _ = open_dense_data(record["data"]["spec"]).split("test")[0]
    assert torch.equal(picture_logits(model, image), picture_logits(run.model, image))
    found = measure(model, open_dense_data(record["data"]["spec"]).split("test"))
    assert found.miou == results["miou"] and found.boundary_iou == results["boundary_iou"]
    with pytest.raises(ValueError, match="tells classes of pixels apart, not of whole pictures"):
        vitrim.load(run.folder / "model.safetensors")


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(
    run, discs: str, tmp_path: Path, monkeypatch
) -> None:
    from vitrim.training import passes as module

    kept = module.keep_epoch

    def killed(*given):
        kept(*given)
        raise SystemExit("killed")

    monkeypatch.setattr(module, "keep_epoch", killed)
    out = tmp_path / "stopped"
    with pytest.raises(SystemExit):
        train_dense(backbone(), discs, out=out, **SMALL)
    monkeypatch.setattr(module, "keep_epoch", kept)
    with pytest.raises(
        ValueError, match="was started with restore='delta', so it cannot be resumed with 'copy'"
    ):
        train_dense(out=out, resume=True, restore="copy", cpu=True)
    resumed = train_dense(backbone(), None, out=out, resume=True, quiet=True, cpu=True)
    wanted = run.model.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in resumed.model.state_dict().items())
    assert resumed.metrics == run.metrics


def test_pictures_of_any_size_get_masks_overlays_and_outlines(run, tmp_path: Path) -> None:
    file = tmp_path / "wide.png"
    Image.new("RGB", (70, 33), (220, 60, 60)).save(file)
    (found,) = segment(run.model, [file])
    assert found.labels.shape == (33, 70) and sum(found.shares().values()) == pytest.approx(1)
    written = write_segmented(found, tmp_path / "out", "wide", ("mask", "overlay", "polygons"))
    assert [path.name for path in written] == ["wide.png", "wide-overlay.png", "wide.json"]
    with Image.open(written[0]) as stored:
        assert stored.mode == "P" and (numpy.asarray(stored) == found.labels).all()
    told = json.loads(written[2].read_text())
    assert told["size"] == [33, 70] and {each["class"] for each in told["objects"]} == set(found.shares())
    whole, sliding = (picture_logits(run.model, found.image, way) for way in ("whole", "slide"))
    assert whole.shape == sliding.shape and not torch.allclose(whole, sliding)


def test_outlines_are_those_of_the_regions() -> None:
    labels = numpy.zeros((8, 8), dtype=numpy.uint8)
    labels[2:6, 2:6], labels[3, 3] = 1, 0
    table = vitrim.dense.classes.ClassTable(("ground", "square"))
    square = next(each for each in polygons(labels, table) if each["class"] == "square")
    corners = numpy.array(square["outline"])
    assert corners.min() == 2 and corners.max() == 6 and len(square["holes"]) == 1
    filled = Image.new("L", (8, 8))
    from PIL import ImageDraw

    ImageDraw.Draw(filled).polygon([tuple(xy) for xy in (corners - 0.5)], fill=1)
    assert (numpy.asarray(filled)[2:6, 2:6] == 1).all()


def test_shares_are_drawn_where_a_method_trains_for_a_range_of_them(discs: str, tmp_path: Path) -> None:
    found = []
    for name, text in (
        ("fixed", "EViT(keep=0.7, at=(2,))"),
        ("range", "EViT(at=(2,), train_keep=(0.3, 1.0))"),
    ):
        settings = {
            **SMALL,
            "methods": ["LoRA(rank=2)", text],
            "training": {**SMALL["training"], "epochs": 1},
        }
        found.append(train_dense(backbone(), discs, out=tmp_path / name, **settings).model.trained())
    assert any(
        not torch.equal(one, other) for one, other in zip(*(each.values() for each in found), strict=True)
    )


def test_unreduced_is_the_same_weights_without_reduction(run) -> None:
    whole = unreduced(run.model)
    assert not [stage.reducer for stage in whole.staged.stages if stage.reducer is not None]
    image = Image.new("RGB", (32, 32), (200, 10, 90))
    assert not torch.equal(picture_logits(whole, image), picture_logits(run.model, image))
    assert run.model.staged.stages[2].reducer is not None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"training": {"mixup": 0.5}}, "mixup=0.5 is of whole pictures"),
        ({"training": {"augment": "rand"}}, "augment=rand has no form for pictures and masks together"),
        (
            {"methods": ["EViT(at=1, budget='mass')"]},
            "is fitted on training images, which segmentation does not",
        ),
        ({"methods": ["FisherDelta()"]}, "FisherDelta chooses by the loss of classes of whole pictures"),
        ({"restore": "logits", "decoder": "upernet"}, "without their neighbours"),
        ({"training": {"normalise": "measured"}}, "normalise=measured is not there for segmentation"),
        ({"training": {"cache_frozen": True}}, "cache_frozen keeps what a classifier"),
        ({"training": {"normalise": "given", "mean": [0.5], "std": [0.5]}}, "each of the 3 channels, got 1"),
        ({"inference": "all"}, "inference must be one of 'slide', 'whole'"),
        ({"data": None}, "segmentation needs data"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_before_a_folder_exists(
    discs: str, tmp_path: Path, given, words
) -> None:
    settings = {**SMALL, "data": discs, **given}
    with pytest.raises(ValueError, match=words):
        train_dense(backbone(), out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_damaged_files_are_refused_in_a_sentence(run, tmp_path: Path) -> None:
    from vitrim.files.saving import read, write_described

    about, tensors = read(run.folder / "model.safetensors")
    for change, words in (
        ({"restore": "fill"}, "restore must be one of"),
        ({"taps": []}, "is damaged and cannot be read: its taps"),
        ({"table": {"names": ["a"], "colours": [[0, 0, 0]]}}, "of its head has shape"),
        ({"kind": "classify"}, "tells classes of whole pictures apart"),
    ):
        file = tmp_path / "damaged.safetensors"
        write_described(file, {**about, "task": {**about["task"], **change}}, tensors)
        with pytest.raises(ValueError, match=words):
            load_dense(file)
    plain = DenseModel(backbone(), classes=2, head="linear")
    save_dense(plain, file)
    assert load_dense(file).table == plain.table
