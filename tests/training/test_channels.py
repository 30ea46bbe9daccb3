"""Images of 4 and 12 channels, from a folder of arrays to an exported file."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from small_runs import colour_folder, toy_vit

from vitrim import evaluate, export, load, predict, save, train
from vitrim.cli.main import main
from vitrim.data import open_data
from vitrim.deploy.exported import open_exported
from vitrim.settings.training import Training
from vitrim.training.channels import told
from vitrim.training.loop import Run

pytestmark = pytest.mark.usefixtures("short_measuring")


def band_folder(folder: Path, channels: int, kind: str = "uint8", per_class: int = 10) -> str:
    """Arrays of two classes, each bright in a channel of its own. Returns the spec."""
    rng = numpy.random.default_rng(0)
    top = {"uint8": 255, "uint16": 10_000}[kind]
    for bright in range(2):
        (folder / f"class{bright}").mkdir(parents=True)
        for index in range(per_class):
            values = rng.integers(0, top // 2, (20, 24, channels))
            values[..., bright] += top // 2
            numpy.save(folder / f"class{bright}" / f"{index}.npy", values.astype(kind))
    return f"folder:{folder}"


METHODS = ("LoRA(rank=2)", "EViT(keep=0.7, at=(0,))")
MEASURED = {"epochs": 2, "augment": "crop", "normalise": "measured"}


def trained(
    out: Path, data: str, channels: int | None, methods: Sequence[str] = (), **training: object
) -> Run:
    settings = {"epochs": 1, "batch_size": 4, "lr": 1e-2, **training}
    return train(
        toy_vit(depth=2),
        data,
        methods=methods,
        out=out,
        training=settings,
        in_chans=channels,
        cpu=True,
        quiet=True,
    )


@pytest.mark.parametrize(("channels", "kind", "scale"), [(4, "uint8", None), (12, "uint16", 10_000.0)])
def test_from_arrays_to_an_exported_file(
    channels: int, kind: str, scale: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = band_folder(tmp_path / "bands", channels, kind)
    run = trained(tmp_path / "run", data, channels, METHODS, **MEASURED, full_scale=scale)
    stored = json.loads((tmp_path / "run" / "run.json").read_text())["preprocess"]
    one = scale or 255
    files = sorted((tmp_path / "bands").rglob("*.npy"))
    assert stored["channels"] == channels and len(stored["mean"]) == len(stored["std"]) == channels
    assert stored.get("scale") == scale
    every = numpy.stack([numpy.load(file) for file in files]) / one
    numpy.testing.assert_allclose(stored["mean"], every.mean((0, 1, 2)), atol=0.02)
    assert evaluate(tmp_path / "run", cpu=True).top1 == run.metrics.top1

    said = predict(tmp_path / "run", files)
    in_memory = predict(tmp_path / "run", [numpy.load(file).transpose(2, 0, 1) for file in files])
    assert [guess.probability for guess in said] == [guess.probability for guess in in_memory]
    save(run.model, tmp_path / "model.safetensors", include_backbone=True)
    again = load(tmp_path / "model.safetensors")
    assert again.preprocess == run.model.preprocess
    assert predict(again, files) == said

    file = tmp_path / ("model.onnx" if scale else "model.pt2")
    export(run.model, file, data=data)
    exported = predict(open_exported(file, trust=True), files)  # type: ignore[arg-type]
    for ours, theirs in zip(said, exported, strict=True):
        assert ours.name == theirs.name and ours.probability == pytest.approx(theirs.probability, abs=1e-5)
    with pytest.raises(ValueError, match=f"this model's images have {channels} channels"):
        export(run.model, tmp_path / "raw.onnx", data=data, raw=True)

    model = str(tmp_path / "model.safetensors")
    Image.fromarray(numpy.zeros((20, 24, 3), "uint8")).save(tmp_path / "rgb.png")
    assert main(["predict", model, str(tmp_path / "rgb.png")]) == 2
    assert f"the {channels} channels that the model takes" in capsys.readouterr().err


def test_what_shows_images_shows_these(tmp_path: Path) -> None:
    data = band_folder(tmp_path / "bands", 4, per_class=5)
    trained(tmp_path / "run", data, 4, METHODS)
    run, table = str(tmp_path / "run"), tmp_path / "table.parquet"
    assert main(["predict", run, str(tmp_path / "bands"), f"--out={table}"]) == 0
    assert (
        main(["explain", run, str(tmp_path / "bands" / "class0" / "0.npy"), f"--out={tmp_path / 'why'}"]) == 0
    )
    assert main(["data", data, "--check", f"--sheet={tmp_path / 'sheet.png'}"]) == 0
    assert main(["report", run]) == 0


def test_what_was_measured_is_found_again(tmp_path: Path) -> None:
    """A run that was cut off after its first epoch goes on with the mean and std it wrote down."""
    data = band_folder(tmp_path / "bands", 4)
    whole = trained(tmp_path / "run", data, 4, METHODS, **MEASURED)
    training = Training().changed(whole.record["settings"]["training"])
    assert training.normalise == "measured" and training.mean is None
    again = train(toy_vit(depth=2), out=tmp_path / "run", resume=True, cpu=True, quiet=True)
    assert again.model.preprocess == whole.model.preprocess
    record = {"preprocess": {**whole.record["preprocess"], "mean": [0.25] * 4}}
    found = told(whole.model.preprocess, open_data(data), training, record)
    assert found.mean == (0.25,) * 4


def test_mean_and_std_given(tmp_path: Path) -> None:
    data = band_folder(tmp_path / "bands", 4)
    run = trained(tmp_path / "run", data, 4, normalise="given", mean=(0.1, 0.2, 0.3, 0.4), std=[0.5])
    pixels = run.model.preprocess
    assert pixels.mean == (0.1, 0.2, 0.3, 0.4) and pixels.std == (0.5,) * 4
    assert load(tmp_path / "run" / "model.safetensors").preprocess == pixels


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"normalise": "given"}, "normalise=given takes mean and std, but mean is not given"),
        ({"mean": [0.5]}, "mean goes with normalise=given, and normalise is checkpoint"),
        ({"normalise": "given", "mean": [0.5], "std": [0.0]}, "std must be a number above 0, got 0.0"),
        ({"normalise": "given", "mean": [0.5, 0.5], "std": [1.0]}, "mean has 2 values"),
        ({"full_scale": 0.0}, "full_scale must be a number above 0, got 0.0"),
        ({"augment": "rand"}, "choose augment=none, flip, shift or crop"),
    ],
)
def test_refusals(settings: dict[str, object], sentence: str, tmp_path: Path) -> None:
    data = band_folder(tmp_path / "bands", 4, per_class=5)
    with pytest.raises(ValueError, match=sentence):
        trained(tmp_path / "run", data, 4, **settings)
    assert not (tmp_path / "run").exists()


def test_a_constant_channel_is_named(tmp_path: Path) -> None:
    data = band_folder(tmp_path / "bands", 4, per_class=5)
    for file in (tmp_path / "bands").rglob("*.npy"):
        values = numpy.load(file)
        values[..., 2] = 7
        numpy.save(file, values)
    with pytest.raises(ValueError, match=r"channel 2 \(from 0\) of the training images is constant"):
        trained(tmp_path / "run", data, 4, **MEASURED)


@pytest.mark.parametrize("in_chans", [None, 12])
def test_images_of_other_channels_are_refused_before_a_run_begins(
    in_chans: int | None, tmp_path: Path
) -> None:
    data = band_folder(tmp_path / "bands", 4)
    with pytest.raises(ValueError, match=f"is the {in_chans or 3} channels that the model takes"):
        trained(tmp_path / "run", data, in_chans)
    assert not (tmp_path / "run").exists()


def test_pictures_for_a_model_of_many_channels(tmp_path: Path) -> None:
    data = colour_folder(tmp_path / "colours", per_class=6)
    with pytest.raises(ValueError, match="is the 12 channels that the model takes"):
        trained(tmp_path / "run", data, 12)
    for file in (tmp_path / "colours").rglob("*.png"):
        Image.open(file).convert("RGBA").save(file)
    run = trained(tmp_path / "run", data, 4)
    assert run.model.preprocess.channels == 4
    in_memory = [torch.zeros(4, 16, 16, dtype=torch.uint8), Image.new("RGBA", (9, 9))]
    assert len(predict(run.model, in_memory)) == 2
