"""vitrim prune: a run with fewer blocks, which every verb opens and training goes on from."""

import json
from pathlib import Path

import pytest
from small_runs import colour_folder

from vitrim import FirstBlocks, evaluate, load, train
from vitrim.cli.main import main

pytestmark = pytest.mark.usefixtures("short_measuring")

SHORT = {"epochs": 1, "batch_size": 8, "lr": 1e-2}
METHODS = ["RepAdapter(width=2)", "EViT(keep=0.8, at=(1, 4))"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pruned")
    data = colour_folder(folder / "colours", per_class=20)
    how = {"training": SHORT, "image_size": 48, "cpu": True, "quiet": True}
    train("test_vit", data, methods=METHODS, out=folder / "whole", **how)
    return folder


def test_a_run_is_cut_opened_and_trained_on(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, cut = finished / "whole", finished / "cut"
    asked = ["prune", str(whole), "--out", str(cut), "--rule", "probe", "--alpha", "0", "--cpu"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert said.count("block ") == 6 and "of 6 blocks" in said and f"--init {cut}" in said
    record = json.loads((cut / "run.json").read_text())
    kept = load(cut / "model.safetensors").depth
    assert record["settings"]["methods"][0] == repr(FirstBlocks(kept)) and kept < 6
    assert record["pruned"]["rule"] == "probe" and len(record["pruned"]["scores"]) == 6
    assert evaluate(cut, cpu=True).to_json()["top1"] == record["results"]["top1"]
    going_on = train(init=cut, training=SHORT, out=finished / "shallow", cpu=True, quiet=True)
    assert going_on.model.depth == kept and going_on.record["init"]["classifier"] == "kept"
    assert load(finished / "shallow" / "model.safetensors").depth == kept
    assert main(["costs", "--model", "test_vit", "--method", f"FirstBlocks({kept})"]) == 0
    assert main(["report", str(cut), str(finished / "shallow"), "--out", str(finished / "page.html")]) == 0
    assert main(asked) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main([*asked[:3], str(cut / "run.json"), *asked[4:]]) == 2
    assert "run.json is a file; choose another out" in capsys.readouterr().err


def test_where_every_block_is_needed_nothing_is_written(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitrim.training.pruned.layer_scores", lambda *given: (0.1, 0.1, 0.1, 0.1, 0.1, 0.9))
    main(["prune", str(finished / "whole"), "--out", str(finished / "none"), "--cpu"])
    assert "needs all 6 blocks" in capsys.readouterr().out
    assert not (finished / "none").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "give --out FOLDER"),
        (["--out", "new", "--rule", "depth"], "rule must be one of 'silhouette', 'probe'"),
        (["--out", "new", "--alpha", "2"], "alpha must be from 0 to 1"),
    ],
)
def test_bad_input_gets_a_sentence(
    finished: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", str(finished / "whole"), *options]) == 2
    assert sentence in capsys.readouterr().err
