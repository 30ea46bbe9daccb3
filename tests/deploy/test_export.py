"""Exported files compute what the model computes, at any batch size, or do not come to be."""

import json
import math
from pathlib import Path

import pytest
import torch
from toys import images, toy, wake

import vitrim
from vitrim import compose, export, open_exported
from vitrim.cli.main import main
from vitrim.deploy.inference import ready
from vitrim.deploy.portable import scatters
from vitrim.deploy.programs import program_of
from vitrim.network.model import StagedViT
from vitrim.tokens.grouping import Mover

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime comes with the extra `export`")
onnx = pytest.importorskip("onnx", reason="ONNX comes with the extra `export`")
pytest.importorskip("onnxscript", reason="onnxscript comes with the extra `export`")

# Reducers, each with another tuner
CASES = {
    "evit": ("EViT(keep=0.5, at=(0,))", "LoRA(rank=2)"),
    "dynamicvit": ("DynamicViT(at=(0,))", "SSF()"),
    "pool": ("Pool(at=(0,))", "Adapter(width=2)"),
    "tome": ("ToMe(r=3)", "LoRA(rank=2, bits=1)"),
    "bipartite": ("Bipartite(at=(0,))", "DenseAdapter(width=2)"),
}
TWO = ("tome", "bipartite")  # a block hands sizes of tokens to the next, or what its adapter gave


def model(*methods: str, depth: int = 1) -> StagedViT:
    """All weights awake, and logits of all tokens: one block shows what a reduction left of them."""
    return wake(compose(toy("average", torch.float32, depth=depth), *methods)).eval()


def agree(exported: torch.nn.Module, staged: StagedViT) -> None:
    for size in (1, 5):
        batch = images(staged, size, seed=size)
        with torch.no_grad():
            torch.testing.assert_close(exported(batch), staged(batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in CASES if name != "evit"])  # below, of raw pixels
def test_onnx(name: str, tmp_path: Path) -> None:
    staged = model(*CASES[name], depth=2 if name in TWO else 1)
    done = export(staged, tmp_path / "model.onnx")
    assert done.agreement.agrees
    agree(open_exported(done.path), staged)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.check.json"]
    written = json.loads((tmp_path / "model.onnx.check.json").read_text())
    assert written["check"]["same_class"] == [12, 12]
    assert written["about"]["methods"] == [repr(method) for method in staged.methods]


@pytest.mark.parametrize("name", ["evit", *TWO])  # by indices, by pairs, by a matrix
def test_portable_programs_do_not_scatter(name: str) -> None:
    staged = model(*CASES[name])
    program = program_of(ready(staged, portable=True), portable=True)
    assert not scatters(program)
    batch = images(staged, 5)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(batch), staged(batch), rtol=1e-4, atol=1e-4)


def test_pt2_is_opened_only_with_trust(tmp_path: Path) -> None:
    staged = model(*CASES["tome"])
    done = export(staged, tmp_path / "model.pt2")
    with pytest.raises(ValueError, match="trust"):
        open_exported(done.path)
    agree(open_exported(done.path, trust=True), staged)


def test_raw_pixels(tmp_path: Path) -> None:
    staged = model(*CASES["evit"])
    done = export(staged, tmp_path / "raw.onnx", raw=True)
    session = onnxruntime.InferenceSession(str(done.path))
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(values) for values in (staged.preprocess.mean, staged.preprocess.std))
    normalised = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = staged(normalised)
    found = torch.from_numpy(session.run(None, {"images": pixels.numpy()})[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_half_precision_and_int8(tmp_path: Path) -> None:
    staged = model("EViT(keep=0.7, at=(0,))", "LoRA(rank=2)")
    halved = export(staged, tmp_path / "half.onnx", precision="fp16")
    small = export(staged, tmp_path / "int8.onnx", precision="int8", max_drop=100)
    assert 0 < halved.agreement.largest_difference < 0.03 * halved.agreement.largest_logit
    assert weights(halved.path) == {onnx.TensorProto.FLOAT16}
    assert b"QuantizeLinear" in small.path.read_bytes()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json"] * 2 + [".onnx"] * 2


def weights(path: Path) -> set[int]:
    """The types of the numbers that a file holds, other than whole ones and single ones."""
    held = onnx.load(str(path)).graph.initializer
    whole = onnx.TensorProto.INT64
    return {tensor.data_type for tensor in held if tensor.data_type != whole and math.prod(tensor.dims) > 1}


def test_a_wrong_file_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scatter with reduction "mean" is exported as no reduction at all, without a word."""

    def scattered_mean(self: Mover, tokens: torch.Tensor) -> torch.Tensor:
        rows = tokens.flatten(0, 1).index_select(0, self.rows)
        joining = tokens.flatten(0, 1).index_select(0, self.joining)
        index = self.target[:, None].expand(-1, tokens.shape[2])
        return rows.scatter_reduce(0, index, joining, "mean").unflatten(0, self.shape)

    staged = model("ToMe(r=3)")
    monkeypatch.setattr(Mover, "__call__", scattered_mean)
    with pytest.raises(ValueError, match="was not written: run, it does not agree"):
        export(staged, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_the_model_is_not_touched(tmp_path: Path) -> None:
    staged = model("LoRA(rank=2)").train()
    before = {name: value.clone() for name, value in staged.state_dict().items()}
    export(staged, tmp_path / "model.pt2")
    assert staged.training
    assert staged.trained()
    assert all(torch.equal(before[name], value) for name, value in staged.state_dict().items())


@pytest.mark.parametrize(
    ("methods", "name", "settings", "said"),
    [
        (("LTMP()",), "model.onnx", {}, "depends on the image"),
        ((), "model.txt", {}, "ends in .onnx or .pt2"),
        ((), "missing/model.onnx", {}, "no folder"),
        ((), "model.onnx", {"precision": "bf16"}, "must be one of"),
        ((), "model.pt2", {"precision": "int8"}, "must be one of"),
        ((), "model.onnx", {"aot": True}, "ends in .pt2"),
        ((), "model.onnx", {"max_drop": -1}, "0 or more"),
        ((), "model.onnx", {"data": "folder:nowhere"}, "nowhere"),
    ],
    ids=str,
)
def test_refusals(
    methods: tuple[str, ...], name: str, settings: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, OSError), match=said):
        export(model(*methods), tmp_path / name, **settings)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(ValueError, match="cannot be read as an ONNX model"):
        open_exported(tmp_path / "text.onnx")
    (tmp_path / "text.pt2").write_text("not a model")
    with pytest.raises(ValueError, match=r"cannot be read as a \.pt2"):
        open_exported(tmp_path / "text.pt2", trust=True)
    with pytest.raises(FileNotFoundError, match="no file"):
        open_exported(tmp_path / "none.onnx")
    torch.onnx.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),), tmp_path / "other.onnx", dynamo=True)
    with pytest.raises(ValueError, match="vitrim did not export it"):
        open_exported(tmp_path / "other.onnx")


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    staged = vitrim.compose("vitrim_tiny_patch8_96", "BitFit()", num_classes=3, image_size=32)
    vitrim.save(staged, tmp_path / "model.safetensors")
    assert main(["export", str(tmp_path / "model.safetensors"), "--to", "pt2"]) == 0
    said = capsys.readouterr().out
    assert "model.pt2" in said
    assert "12 of 12 pictures get the same class" in said
    assert main(["export", str(tmp_path / "model.safetensors"), "--to", "onnx", "--out", "x.pt2"]) == 2
    assert "ends in .onnx" in capsys.readouterr().err
