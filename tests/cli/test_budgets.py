"""--budget on the verbs that run a trained model, and export --fixed."""

import json
from pathlib import Path

import pytest
from PIL import Image
from pyarrow.parquet import read_table
from small_runs import colour_folder, small_run

from vitrim import load
from vitrim.cli.main import main
from vitrim.report.charts.by_budget import by_budget

pytestmark = pytest.mark.usefixtures("short_measuring")

METHODS = ("EViT(keep=0.7, at=(1, 2), budget='mass', fuse='drop', train_keep=(0.4, 1.0))", "LoRA(rank=2)")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("budgets")
    return small_run(place / "run", colour_folder(place / "data", 6), methods=METHODS, epochs=1).folder


def test_evaluate_gives_a_line_for_each_budget_and_draws_them(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--budget", "0.3,0.9", "--json", "--cpu"]) == 0
    low, high = json.loads(capsys.readouterr().out)
    assert (low["budget"], high["budget"]) == (0.3, 0.9)
    assert low["costs_on_images"]["gmacs_mean"] < high["costs_on_images"]["gmacs_mean"]
    place = tmp_path / "drawn.png"
    asked = ["--budget", "0.3,0.9", "--picture", str(place), "--cpu"]
    assert main(["evaluate", str(run), *asked]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("budget 0.3: ") and "for nine in ten images" in lines[0]
    told = json.loads((tmp_path / "drawn.budgets.json").read_text())
    assert told["rows"] == [low, high] and "The cost depends on the image" in told["words"]
    chart = by_budget(told["rows"][::-1], "test")
    (line,) = (line for line in chart.figure().axes[0].lines if line.get_linestyle() == "-")
    costs = [row["costs_on_images"]["gmacs_mean"] for row in (low, high)]
    assert line.get_xydata().tolist() == [
        [cost, 100 * row["top1"]] for cost, row in zip(costs, (low, high), strict=True)
    ]
    assert [text.get_text() for text in chart.figure().axes[0].texts] == ["0.3", "0.9"]
    assert Image.open(place).format == "PNG"


def test_predict_takes_one_and_bench_draws_several(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = next((run.parent / "data").rglob("*.png"))
    main(["predict", str(run), str(picture), "--budget", "0.5"])
    assert picture.name in capsys.readouterr().out
    place = tmp_path / "bench.png"
    asked = ["--ways", "eager", "--batch_size", "2", "--rounds", "3", "--picture", str(place)]
    main(["bench", str(run), "--budget", "0.8,0.5", *asked])
    told = capsys.readouterr().out
    assert "budget 0.5: " in told and "keep=0.5" in told and "keep=0.8" in told
    assert Image.open(place).format == "PNG"


def test_a_table_has_what_lines_say_under_a_budget(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    asked = ["predict", str(run), "data", "--budget", "0.3"]
    for pace in (1, 5):
        place = tmp_path / f"{pace}.parquet"
        made = [*asked, "--out", str(place), "--batch_size", str(pace), "--workers", "0"]
        assert main([*made, "--device", "cpu"]) == 0
        capsys.readouterr()
        assert main([*asked, "--json", "-", "--device", "cpu"]) == 0
        lines = json.loads(capsys.readouterr().out)
        table = read_table(place).to_pylist()
        assert [row["path"] for row in table] == [line["path"] for line in lines]
        said = [line["predictions"][0]["probability"] for line in lines]
        assert [row["probability"] for row in table] == pytest.approx(said, abs=1e-5)
    assert main([*asked[:-1], "0.9", "--out", str(place), "--device", "cpu"]) == 2  # another model's table


def test_embeddings_are_those_of_the_budget(run: Path, tmp_path: Path) -> None:
    places = {share: tmp_path / f"{share}.parquet" for share in ("0.3", "0.9")}
    for share, place in places.items():
        asked = [str(run.parent / "data"), "--budget", share, "--workers", "0", "--device", "cpu"]
        assert main(["embed", str(run), *asked, "--out", str(place)]) == 0
        assert main(["predict", str(run), *asked, "--embeddings", "--out", str(place) + ".both.parquet"]) == 0
        found, both = read_table(place), read_table(str(place) + ".both.parquet")
        assert found.column("embedding").to_pylist() == both.column("embedding").to_pylist()
    low, high = (read_table(place).column("embedding").to_pylist() for place in places.values())
    assert low != high


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--budget", "0.3,0.9"], "predictions are made at one budget; give one share"),
        (["--model", "vit_tiny_patch16_224", "--pretrained", "--budget", "0.3"], "--budget goes with a run"),
    ],
)
def test_embed_refuses(
    run: Path, tmp_path: Path, given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [str(run.parent / "data"), "--out", str(tmp_path / "table.parquet"), *given]
    assert main(["embed", *([] if "--model" in given else [str(run)]), *asked]) == 2
    assert sentence in capsys.readouterr().err and not list(tmp_path.iterdir())


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
        (["evaluate", "--budget", "0.5", "--picture", "a.png"], "--picture draws several budgets of one"),
        (["evaluate", "--budget", "0.5,0.6", "--picture", "a.jpg"], "must end in .png"),
        (["evaluate", "--budget", "0.5,0.6", "--picture", "no/a.png"], "there is no folder no to write"),
    ],
)
def test_refusals(run: Path, given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([given[0], str(run), *given[1:]]) == 2
    assert sentence in capsys.readouterr().err
