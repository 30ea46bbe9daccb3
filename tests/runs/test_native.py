"""Pictures at their own aspect ratio: a folder of many sizes in packed batches, as one by one."""

from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from timm.data.naflex_transforms import get_image_size_for_seq
from torchvision.transforms.functional import to_tensor
from toys import toy

from vitrim import EViT, LoRA, compose, evaluate, predict, save
from vitrim.cli.main import main
from vitrim.network.model import StagedViT
from vitrim.runs.native import native_transform

SIZES = ((40, 30), (16, 64), (64, 16), (25, 25), (300, 20), (3, 3))  # width, height
MOST = 24


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, six sizes each."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = numpy.random.default_rng(0)
    for name in ("ant", "bee"):
        (folder / name).mkdir()
        for index, (width, height) in enumerate(SIZES):
            pixels = rng.integers(0, 255, (height, width, 3), numpy.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def model() -> StagedViT:
    found = compose(
        toy("naflex-average"), LoRA(rank=2), EViT(keep=0.7, at=(2,), score="received"), num_classes=2
    )
    found.classes = ("ant", "bee")
    return found.eval()


def by_hand(model: StagedViT, file: Path) -> torch.Tensor:
    """timm's size, Pillow's bilinear or bicubic resizing, and the model on this picture alone."""
    picture = Image.open(file)
    _, size = get_image_size_for_seq((picture.height, picture.width), (4, 4), MOST)
    mode = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    pixels = to_tensor(picture.resize(size[::-1], mode[model.preprocess.interpolation]))
    how = model.preprocess
    mean, std = (torch.tensor(values)[:, None, None] for values in (how.mean, how.std))
    with torch.no_grad():
        return model(((pixels - mean) / std)[None].to(next(model.parameters()).dtype)).softmax(1)[0]


def test_a_folder_of_many_sizes_is_predicted_as_one_by_one(model: StagedViT, pictures: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    together = predict(model.float(), files, native=MOST, top=2)
    for place, file in enumerate(files):
        alone = predict(model, file, native=MOST, top=2)
        expected = by_hand(model, file)
        for ours, single in zip(together[2 * place : 2 * place + 2], alone, strict=True):
            assert ours.name == single.name
            assert ours.probability == pytest.approx(single.probability, abs=2e-6)
            assert ours.probability == pytest.approx(
                expected[("ant", "bee").index(ours.name)].item(), abs=2e-6
            )


def test_no_picture_has_more_patches_than_asked_for(model: StagedViT, pictures: Path) -> None:
    transform = native_transform(model, MOST)
    for file in pictures.rglob("*.png"):
        height, width = transform(Image.open(file)).shape[1:]
        assert height % 4 == width % 4 == 0 and height * width // 16 <= MOST


def test_measured_and_named_from_the_command_line(
    model: StagedViT, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.safetensors"
    save(model.float(), file, include_backbone=True)
    data = f"folder:{pictures}?seed=1"
    assert main(["evaluate", str(file), "--data", data, f"--native={MOST}", "--cpu", "--batch_size=3"]) == 0
    found = evaluate(model, data, native=MOST, batch_size=2, workers=1, cpu=True)
    single = evaluate(model, data, native=MOST, batch_size=1, cpu=True)
    assert found.loss == pytest.approx(single.loss, abs=1e-6) and found.top1 == single.top1
    capsys.readouterr()
    assert main(["predict", str(file), str(pictures), f"--native={MOST}", "--device=cpu"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12
    out = f"--out={tmp_path / 'table.parquet'}"
    assert main(["predict", str(file), str(pictures), f"--native={MOST}", out]) == 2
    assert "--native goes with lines" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "most", "sentence"),
    [
        ("vit", 16, "only NaFlexViT with linear patches takes packed patches"),
        ("naflex-convolution", 16, "only NaFlexViT with linear patches takes packed patches"),
        ("naflex-average", 0, "native must be the most patches of an image, a whole number from 1 on, got 0"),
    ],
)
def test_what_cannot_be(family: str, most: int, sentence: str, pictures: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        predict(compose(toy(family), num_classes=2), pictures, native=most)
