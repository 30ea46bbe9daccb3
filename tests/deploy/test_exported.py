"""An exported file is evaluated and predicted with like the run it came from."""

import shutil
from pathlib import Path

import pytest
from small_runs import colour_folder

from vitrim.cli.main import main

VERSIONS = Path(__file__).parents[1] / "data_of_versions"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run and its pictures."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime comes with the extra `export`")
    top = tmp_path_factory.mktemp("exported")
    colour_folder(top / "colours", per_class=6)
    shutil.copytree(VERSIONS / "2026-11-21" / "finished", top / "run")
    record = top / "run" / "run.json"
    record.write_text(record.read_text().replace("ROOT", str(top)))
    assert main(["export", str(top / "run")]) == 0
    return top


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_it_is_evaluated_like_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ("--data", f"folder:{run / 'colours'}", "--cpu")
    ours = said(capsys, "evaluate", str(run / "run"), *data)
    theirs = said(capsys, "evaluate", str(run / "run" / "model.onnx"), *data)
    assert ours == theirs
    assert "% right" in ours


def test_it_predicts_like_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = said(capsys, "predict", str(run / "run"), str(run / "colours"), "--top", "3")
    theirs = said(capsys, "predict", str(run / "run" / "model.onnx"), str(run / "colours"), "--top", "3")
    assert len(ours.splitlines()) == 3 * 18
    for mine, other in zip(ours.splitlines(), theirs.splitlines(), strict=True):
        *names, share = mine.split("\t")
        *their_names, their_share = other.split("\t")
        assert names == their_names
        assert float(share.rstrip(" %")) == pytest.approx(float(their_share.rstrip(" %")), abs=0.02)


def test_it_says_what_it_cannot_know(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run / "run" / "model.onnx")]) == 2
    assert "give data" in capsys.readouterr().err
    assert main(["predict", str(run / "run" / "missing.onnx"), str(run / "colours")]) == 2
    assert "no file" in capsys.readouterr().err
