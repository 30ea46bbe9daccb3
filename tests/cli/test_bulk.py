"""`vitrim predict --out` and `vitrim embed` as they are typed."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from pyarrow.parquet import read_table

import vitrim
from vitrim.cli.main import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = vitrim.compose("vitrim_tiny_patch8_96", vitrim.Linear(), num_classes=2)
    vitrim.save(model, tmp_path / "model.safetensors", classes=["day", "night"])
    (tmp_path / "in").mkdir()
    for index, shade in enumerate(("black", "red", "white")):
        Image.new("RGB", (100, 100), shade).save(tmp_path / "in" / f"{index}.png")
    (tmp_path / "in/3.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_predict_writes_a_table_and_says_what_is_in_it(place: Path, capsys: Captured) -> None:
    asked = ["predict", "model.safetensors", "in/*.png", "--out", "preds.parquet", "--workers", "0"]
    assert main([*asked, "--device", "cpu", "--part-size", "2"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"3 of 4 images: {place / 'preds.parquet'}; 4 of them now, ")
    assert told.err == f"vitrim: 1 image cannot be read; {place / 'preds.broken.csv'} says why\n"
    assert read_table("preds.parquet")["path"].to_pylist() == ["in/0.png", "in/1.png", "in/2.png"]
    assert main([*asked, "--device", "cpu", "--part-size", "2"]) == 0
    assert capsys.readouterr().out.endswith("; all was there already\n")


def test_embed_by_a_backbone_equals_embed_by_its_run(place: Path, capsys: Captured) -> None:
    pace = ["--workers", "0", "--device", "cpu"]
    assert main(["embed", "model.safetensors", "in", "--out", "run", *pace]) == 0
    assert main(["embed", "--model", "vitrim_tiny_patch8_96", "in", "--out", "backbone", *pace]) == 0
    first, second = (torch.tensor(read_table(name)["embedding"].to_pylist()) for name in ("run", "backbone"))
    assert first.shape == (3, 96) and torch.allclose(first, second, atol=1e-5)
    assert not torch.allclose(first[0], first[2], atol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "model.safetensors", "in", "--out", "x.parquet", "--csv", "-"], "give one of them"),
        (["predict", "model.safetensors", "in", "--out", "x.csv"], "write --csv x.csv for text"),
        (["predict", "model.safetensors", "in", "--embeddings"], "embeddings must go with --out"),
        (["predict", "model.safetensors", "in", "--on", "ray"], "on must go with --out"),
        (["predict", "model.safetensors", "in", "--part_size", "8"], "part_size must go with --out"),
        (["predict", "model.safetensors", "in", "--workers", "0"], "workers must go with --out"),
        (["embed", "model.pt2", "in", "--out", "x"], "an exported file gives no embeddings"),
        (["embed", "model.safetensors", "--out", "x"], "give a run and images, or --model NAME and images"),
        (["embed", "run", "in", "--out", "x", "--pretrained"], "go with --model; a run has its own"),
        (["embed", "--model", "vit_tiny_patch16_224", "in", "--out", "x"], "random weights"),
        (["predict", "model.safetensors", "hf:a/b"], "go into a table"),
    ],
)
def test_refused_in_a_sentence(arguments: list[str], said: str, place: Path, capsys: Captured) -> None:
    before = sorted(place.iterdir())
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert sorted(place.iterdir()) == before


def test_lists_and_patterns_are_named_as_lines_too(place: Path, capsys: Captured) -> None:
    (place / "list.txt").write_text("in/2.png\nin/0.png\n")
    assert main(["predict", "model.safetensors", "list.txt", "in/1*", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["in/2.png", "in/0.png", "in/1.png"]
