"""The ways to run a model: eager, compiled, through ONNX Runtime, in fewer bits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from vitrim.backbones.preprocess import Preprocess
from vitrim.deploy.exported import open_exported
from vitrim.deploy.inference import InferenceModel, ready
from vitrim.deploy.int8 import quantise
from vitrim.deploy.programs import program_of, write_onnx
from vitrim.measuring.machine import computes_bf16
from vitrim.network.model import StagedViT

CALIBRATION = 8  # images that 8-bit ranges are read off; any will do where only time is asked for
GRAPHS = 64  # compiled forms of one forward pass: candidates times batch sizes

Runs = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Way:
    """One way to run a model.

    Attributes:
        words: as tables name it.
        precision: of weights and products.
        compiled: through torch.compile.
        exported: through a file and ONNX Runtime, which runs on the CPU here.
    """

    words: str
    precision: str = "fp32"
    compiled: bool = False
    exported: bool = False


WAYS = {
    "eager": Way("eager"),
    "compiled": Way("compiled", compiled=True),
    "onnx": Way("ONNX Runtime", exported=True),
    "int8": Way("ONNX Runtime, int8", "int8", exported=True),
    "bf16": Way("bf16", "bf16"),
    "bf16-compiled": Way("bf16, compiled", "bf16", compiled=True),
}


USUAL = ("eager", "compiled", "onnx", "int8", "bf16")  # where none are named


class PlainBackbone(nn.Module):
    """timm's own model and its own forward pass, with what an export asks of a model."""

    def __init__(self, vit: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.vit = vit
        self.preprocess = preprocess

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.vit(images)
        return logits


def plain_backbone(model: StagedViT) -> PlainBackbone:
    """The backbone of a model on which everything is folded that folds."""
    return PlainBackbone(model.alone(), model.preprocess).eval()


def why_not(name: str, device: torch.device) -> str | None:
    """Why a way cannot be measured on this machine, in a sentence; None where it can."""
    way = WAYS[name]
    if way.exported and device.type != "cpu":
        return f"{name} is left out: ONNX Runtime is measured on the CPU; use --device cpu"
    needed = ("onnx", "onnxscript", "onnxruntime") if way.exported else ()
    if lacking := [module for module in needed if find_spec(module) is None]:
        return f"{name} is left out: it needs {' and '.join(lacking)}; pip install 'vitrim[export]'"
    if way.precision == "bf16" and not _has_bf16(device):
        return f"{name} is left out: this {device.type.upper()} has no units for bfloat16"
    if way.compiled and (reason := _why_not_compiled(device)):
        return f"{name} is left out: torch.compile needs a C++ compiler such as g++ ({reason})"
    return None


def prepared(
    name: str,
    model: nn.Module,
    folder: Path,
    called: str,
    device: torch.device,
    any_batch: bool = False,
) -> Runs:
    """A composed model or a `PlainBackbone` made ready to run that way; images [B, C, height, width] in
    float32 go in.

    Args:
        folder, called: where an exported file goes, and its name without suffix.
        any_batch: compile one graph for all batch sizes above 1 instead of one for each.

    Raises:
        ValueError: for a composition that cannot leave, if the way needs an exported file.
    """
    way = WAYS[name]
    if way.exported:
        return _exported(model, folder / called, way.precision == "int8")
    run: nn.Module = model.to(device).eval()
    if way.precision == "bf16":
        run = InferenceModel(copy.deepcopy(cast("StagedViT", run)), "bf16", raw=False).eval()
    return compiled(run, any_batch) if way.compiled else run


def compiled(model: nn.Module, any_batch: bool = False) -> Runs:
    """One graph, without a fall back to eager: a reducer that broke it would be measured as something
    else."""
    run = torch.compile(model, fullgraph=True, dynamic=None if any_batch else False)

    def call(images: Tensor) -> Tensor:
        if any_batch and len(images) > 1:  # else the second size would be compiled for itself, too
            torch._dynamo.maybe_mark_dynamic(images, 0)
        try:
            with torch._dynamo.config.patch(recompile_limit=GRAPHS):
                logits: Tensor = run(images)
        except TorchDynamoException as error:
            raise ValueError(f"torch.compile refuses it: {str(error).strip().splitlines()[0]}") from error
        return logits

    return call


class FromFile:
    """An exported model that can be opened anew: a session keeps the memory that its batches took."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = open_exported(path)

    def __call__(self, images: Tensor) -> Tensor:
        logits: Tensor = self.run(images)
        return logits


def anew(run: Runs) -> Runs:
    """The same, holding nothing but its weights."""
    return FromFile(run.path) if isinstance(run, FromFile) else run


def _exported(model: nn.Module, path: Path, int8: bool) -> Runs:
    leaving = _leaving(model)
    preprocess, floats = leaving.model.preprocess, path.with_suffix(".onnx")
    if not floats.exists():
        with torch.no_grad():
            logits = leaving(leaving.example(2))
        about = {"classes": None, "num_classes": logits.shape[1], "raw": False}
        write_onnx(program_of(leaving, portable=False), {**about, "preprocess": preprocess.to_json()}, floats)
    if not int8:
        return FromFile(floats)
    eight = path.with_name(f"{path.name}-int8.onnx")
    if not eight.exists():
        quantise(floats, eight, torch.randn(CALIBRATION, preprocess.channels, *preprocess.image_size))
    return FromFile(eight)


def _leaving(model: nn.Module) -> InferenceModel:
    if isinstance(model, StagedViT):
        return ready(model)
    return InferenceModel(cast("StagedViT", model), "fp32", raw=False).eval()


def _has_bf16(device: torch.device) -> bool:
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else computes_bf16()


def _why_not_compiled(device: torch.device) -> str | None:
    """What torch.compile says to the smallest of functions; None where it can."""
    try:
        torch.compile(_one_more)(torch.zeros(8, device=device))
    except Exception as error:  # whatever the compilers of all systems raise
        return str(error).strip().splitlines()[0]
    return None


def _one_more(numbers: Tensor) -> Tensor:
    return numbers + 1
