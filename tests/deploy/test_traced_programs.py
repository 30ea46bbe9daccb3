"""torch's older tools record one run: what they write takes other batch sizes, or is refused."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toys import images, toy, wake

import vitrim
from vitrim import compose

FIXED = [name for name in vitrim.REDUCERS if name != "LTMP"]  # how many tokens leave is known beforehand


def composed(name: str) -> nn.Module:
    method = vitrim.METHODS[name].example(compose(toy(depth=2)))
    return wake(compose(toy(dtype=torch.float32, depth=2), method)).eval()


def write_onnx(model: nn.Module, pictures: Tensor, file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (pictures,),
            str(file),
            dynamo=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=17,
        )


@pytest.mark.parametrize("name", FIXED)
def test_the_older_onnx_exporter_is_refused_at_a_reducer(name: str, tmp_path: Path) -> None:
    """Its programs failed at other batch sizes, or gave other logits."""
    model = composed(name)
    with pytest.raises(ValueError, match=r"use vitrim\.export") as refusal:
        write_onnx(model, images(model), tmp_path / "model.onnx")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.filterwarnings("ignore")
def test_torchscript_takes_other_batch_sizes(name: str) -> None:
    model = composed(name)
    pictures = images(model, batch=5)
    with torch.no_grad():
        traced = torch.jit.trace(model, (pictures[:2],))
        for batch in (pictures, pictures[:1]):
            torch.testing.assert_close(traced(batch), model(batch), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["LoRA", "VPT", "DyT", "Adapter"])
def test_tuners_alone_go_through_the_older_onnx_exporter(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    model = composed(name)
    pictures = images(model, batch=5)
    write_onnx(model, pictures[:2], tmp_path / "model.onnx")
    program = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for batch in (pictures, pictures[:1]):
        (logits,) = program.run(None, {"images": batch.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), model(batch), rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_what_depends_on_the_image_is_not_traced() -> None:
    """The traced run's number of tokens would stand in the program, and be wrong for the next image."""
    model = composed("LTMP")
    with pytest.raises(ValueError, match="how many tokens stay depends on the image"):
        torch.jit.trace(model, (images(model),))
