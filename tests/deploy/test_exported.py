"""An exported file is evaluated and predicted with like the run it came from."""

import json
import platform
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from mutations import mutations
from small_runs import colour_folder

from vitrim.cli.main import main
from vitrim.deploy.exported import open_exported
from vitrim.deploy.programs import write_pt2
from vitrim.runs.inspecting import inspect

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


def test_it_says_what_it_is(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx

    file = run / "run" / "model.onnx"
    found = json.loads(said(capsys, "inspect", str(file), "--json"))
    assert found["kind"] == "ONNX model exported by vitrim" and found["precision"] == "fp32"
    assert found["methods"].startswith("LoRA(rank=1") and found["classes"].startswith("3: ")
    assert found["takes"].startswith("images [batch, 3, ") and found["gives"] == "logits [batch, 3] float"
    for verb in (["serve"], ["bench"], ["export"], ["explain", str(run / "colours"), "--out", "x"]):
        assert main([verb[0], str(file), *verb[1:]]) == 2
        assert "is an exported program, which vitrim evaluates" in capsys.readouterr().err
    model = onnx.load(str(file))
    for prop in list(model.metadata_props):
        model.metadata_props.remove(prop)
    onnx.save(model, str(tmp_path / "other.onnx"))
    other = dict(inspect(tmp_path / "other.onnx"))
    assert other["kind"] == "ONNX model" and other["takes"] == found["takes"] and "methods" not in other


class Doubled(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * 2


def test_a_program_of_torch_says_it_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = torch.export.export(Doubled(), (torch.zeros(2),))
    preprocess = {"image_size": [32, 48], "mean": [0.5], "std": [0.5]}
    about = {"methods": [], "backbone": "toy", "num_classes": 0, "classes": None, "preprocess": preprocess}
    write_pt2(program, {**about, "precision": "bf16", "raw": True}, tmp_path / "own.pt2")
    torch.export.save(program, tmp_path / "other.pt2")
    cut = (tmp_path / "own.pt2").read_bytes()
    with zipfile.ZipFile(tmp_path / "code.pt2", "w") as archive:  # as AOTInductor writes it
        note = {"vitrim": json.dumps({**about, "precision": "fp32", "raw": False, "aot": True})}
        machine = {"AOTI_MACHINE": "x86_64", "AOTI_CPU_ISA": "AVX2"}
        archive.writestr("m/data/aotinductor/model/a.wrapper_metadata.json", json.dumps(note | machine))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    with pytest.raises(ValueError, match=r"'code.pt2' is machine code for AVX2, which this machine"):
        open_exported(tmp_path / "code.pt2", trust=True)
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(ValueError, match=r"machine code for x86_64 and AVX2"):
        open_exported(tmp_path / "code.pt2", trust=True)
    monkeypatch.setattr(torch.export, "load", None)
    found = dict(inspect(tmp_path / "own.pt2"))
    assert found["images"] == "32x48, pixels from 0 to 255" and found["methods"] == "none: a linear probe"
    found = dict(inspect(tmp_path / "code.pt2"))
    assert (found["needs"], found["precision"]) == ("x86_64, AVX2", "fp32, machine code")
    with pytest.raises(ValueError, match="vitrim did not export"):
        inspect(tmp_path / "other.pt2")
    for name, content in (("cut.onnx", b"\xff" * 9), ("empty.onnx", b""), ("cut.pt2", cut[: len(cut) // 2])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}' (cannot be read|is not|is cut)"):
            inspect(tmp_path / name)


def test_whatever_is_claimed_is_refused_or_shown(tmp_path: Path) -> None:
    preprocess = {"image_size": [32, 48], "mean": [0.5], "std": [0.5]}
    about = {"methods": ["LoRA()"], "backbone": "toy", "num_classes": 2, "classes": ["a", "b"]}
    about |= {"preprocess": preprocess, "precision": "fp32", "raw": False, "versions": {"torch": "2"}}
    shown = 0
    for _, text in mutations(about):
        with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
            archive.writestr("m/extra/vitrim", text)
        try:
            shown += bool(inspect(tmp_path / "m.pt2"))
        except ValueError as error:
            assert "\n" not in str(error)
    assert shown
