"""The command line: readable help, from a folder of pictures to predictions, refusals in one sentence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import colour_folder

from vitrim.cli.main import VERBS, main

pytestmark = pytest.mark.usefixtures("short_measuring")

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return colour_folder(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    code = main(["train", *SMALL, "--data", data, "--out", str(out), "--epochs", "6"])
    assert code == 0
    return out


SMALL = [
    "--model=test_vit", "--image-size=48", "--method", "EViT(keep=0.5, at=(2,))", "--method=LoRA(rank=2)",
    "--batch_size=8", "--lr=0.02", "--cpu", "--quiet",
]  # fmt: skip


def test_the_overview_names_every_verb(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert all(f"  {verb} " in overview for verb in VERBS)
    assert main([]) == 0
    assert capsys.readouterr().out == overview


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: Captured) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"vitrim {verb}" in text.partition("examples:")[2]
    assert "==SUPPRESS==" not in text
    assert "(type:" not in text


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_do_not_wait_for_torch(argument: str) -> None:
    script = "import sys, vitrim.cli.main as cli; cli.main(sys.argv[1:]); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, argument], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_train_evaluate_predict_report(run: Path, data: str, capsys: Captured) -> None:
    record = json.loads((run / "run.json").read_text())
    assert main(["evaluate", str(run), "--cpu"]) == 0
    assert f"test: {100 * record['results']['top1']:.2f} % right" in capsys.readouterr().out
    folder = Path(data.partition(":")[2])
    assert main(["predict", str(run), str(folder / "red"), "--device", "cpu"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 16
    assert sum(name == "red" for _, name, _ in lines) >= 13
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "What the model looks at" in page
    assert page.count("data:image/png;base64,") >= 2 and 'class="samples"' in page
    assert "://" not in page  # complete in itself


def test_bench_measures_against_the_plain_backbone(run: Path, tmp_path: Path, capsys: Captured) -> None:
    figures = tmp_path / "speed.json"
    options = ["--batch_size=2", "--batch_size=3", "--rounds=3", "--device=cpu", f"--json={figures}"]
    picture = tmp_path / "bars.png"
    assert main(["bench", str(run), *options, "--ways=eager", f"--picture={picture}"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("plain backbone again", "as trained", "folded", "batches of 3"))
    assert "units for bfloat16: " in table and "units for 8 bits: " in table
    assert {row["batch_size"] for row in json.loads(figures.read_text())["rows"]} == {2, 3}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_costs_are_those_of_the_python_function(capsys: Captured) -> None:
    assert main(["costs", "--model=vit_base_patch16_224", "--method=EViT(keep=0.7, at=(3, 6, 9))"]) == 0
    table = capsys.readouterr().out
    assert "11.622" in table
    assert "17.58" in table
    assert "tokens after each block: 197 197 197 140" in table


def test_list_shows_what_there_is(capsys: Captured) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for name in ("sparse-tuning", "EViT(keep=0.7, at=(3, 6, 9))", "folder", "vitrim_tiny", "label_smoothing"):
        assert name in text
    assert main(["list", "recipe"]) == 2
    assert "did you mean recipes?" in capsys.readouterr().err


def test_a_configuration_can_be_printed_and_read(tmp_path: Path, data: str, capsys: Captured) -> None:
    arguments = [*SMALL, "--data", data, "--out", str(tmp_path / "run"), "--epochs", "1"]
    assert main(["train", *arguments, "--print_config"]) == 0
    (tmp_path / "train.yaml").write_text(capsys.readouterr().out)
    assert not (tmp_path / "run").exists()
    assert main(["train", "--config", str(tmp_path / "train.yaml"), "--seed", "7"]) == 0
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["training"]["seed"] == 7
    assert settings["training"]["lr"] == 0.02
    assert settings["methods"][0] == "EViT(keep=0.5, at=(2,))"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tarin"], "no verb 'tarin'; did you mean train?"),
        (["train", "--epoch", "3"], "no option 'epoch'; did you mean epochs?"),
        (["train", "--epochs", "many"], "--epochs takes a whole number or auto, got 'many'"),
        (["train", "--epochs", "0"], "epochs must be a whole number of at least 1, got 0"),
        (["train", "--recipe", "lorra"], "no recipe 'lorra'; did you mean lora"),
        (["train", "--method", "Evit"], "no method 'Evit'; did you mean EViT?"),
        (["train", "--method", "EViT(kep=0.5)"], "EViT has no setting 'kep'; did you mean keep?"),
        (["train", "--method", "EViT(at=(40,))"], "there is no block 40"),
        (["train", "--model", "vit_tny_patch16_224"], "no model 'vit_tny_patch16_224' in timm; did you mean"),
        (["train", "--data", "digit"], "did you mean digits?"),
        (["train", "--data", "folder:nowhere"], "nowhere"),
        (["train", "--resume"], "which run to resume?"),
        (["train", "--recipe", "lora", "--method", "LoRA"], "brings its own methods"),
        (["train", "--weights", "nowhere.pth", "--model", "test_vit"], "no weights file"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["evaluate", "nowhere"], "there is no run folder or model file nowhere"),
        (["evaluate"], "run"),
        (["predict", "nowhere"], "images"),
        (["bench"], "what is to be measured?"),
        (["bench", "--method", "LoRA", "--ways", "quick"], "way must be one of 'eager'"),
        (["bench", "--method", "LoRA", "--json", "no/speed.json"], "there is no folder no"),
        (["report", "nowhere"], "not a run folder"),
    ],
)
def test_refusals_are_one_sentence(
    arguments: list[str], sentence: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.startswith("vitrim: ")
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_debugging_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIM_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(["evaluate", "nowhere"])


def test_data_counts_every_image_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "digits", "--check", "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "all 1,797 images can be read" in capsys.readouterr().out


def test_costs_name_what_the_images_decide(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["costs", "--model", "vit_tiny_patch16_224", "--recipe", "tr-pts"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("is not in these figures") == 2
    assert "FisherDelta" in shown and "EViT" in shown


def test_costs_of_features_without_a_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["costs", "--model", "vit_tiny_patch16_224", "--classes", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    trained = [line.split()[-1] for line in lines if "that train" in line or "without the classifier" in line]
    assert len(trained) == 2 and trained[0] == trained[1]
    assert main(["costs", "--model", "vit_tiny_patch16_224", "--classes", "-1"]) == 2
