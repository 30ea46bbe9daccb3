"""--budget on the verbs that run a trained model, and export --fixed."""

import json
from pathlib import Path

import pytest
from small_runs import colour_folder, small_run

from vitrim import load
from vitrim.cli.main import main

METHODS = ("EViT(keep=0.7, at=(1, 2), budget='mass', fuse='drop', train_keep=(0.4, 1.0))", "LoRA(rank=2)")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("budgets")
    return small_run(place / "run", colour_folder(place / "data", 6), methods=METHODS, epochs=1).folder


def test_evaluate_gives_a_line_for_each_budget(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--budget", "0.3,0.9", "--json", "--cpu"]) == 0
    low, high = json.loads(capsys.readouterr().out)
    assert (low["budget"], high["budget"]) == (0.3, 0.9)
    assert low["costs_on_images"]["gmacs_mean"] < high["costs_on_images"]["gmacs_mean"]
    assert main(["evaluate", str(run), "--budget", "0.3,0.9", "--cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("budget 0.3: ") and "for nine in ten images" in lines[0]


def test_predict_and_bench_take_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = next((run.parent / "data").rglob("*.png"))
    main(["predict", str(run), str(picture), "--budget", "0.5"])
    assert picture.name in capsys.readouterr().out
    main(["bench", str(run), "--budget", "0.5", "--ways", "eager", "--batch_size", "2", "--rounds", "3"])
    told = capsys.readouterr().out
    assert "budget 0.5: " in told and "keep=0.5" in told


def test_export_refuses_and_offers_the_mean(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "--out", str(tmp_path / "model.onnx")]) == 2
    assert "vitrim export --fixed" in capsys.readouterr().err
    main(["export", str(run), "--out", str(tmp_path / "model.pt2"), "--to", "pt2", "--fixed"])
    assert (tmp_path / "model.pt2").is_file()
    assert load(run / "model.safetensors").methods[0].budget == "mass"  # the run stays as it was


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["evaluate", "--budget", "0.5,x"], "--budget takes shares such as 0.5 or 0.5,0.7, got 'x'"),
        (["evaluate", "--budget", "1.5"], "a share must be above 0 and at most 1, got 1.5"),
        (["evaluate", "--budget", "0.5,0.6", "--per_class", "a.csv"], "files are written of one budget"),
        (["bench", "--budget", "0.5,0.6", "--picture", "a.png"], "--picture draws one budget"),
    ],
)
def test_refusals(run: Path, given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([given[0], str(run), *given[1:]]) == 2
    assert sentence in capsys.readouterr().err
