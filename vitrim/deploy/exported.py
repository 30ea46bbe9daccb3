"""An exported file as a model: what `evaluate`, `predict` and the check after an export run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from vitrim.backbones.preprocess import Preprocess
from vitrim.deploy.programs import KEY
from vitrim.files.saving import PROGRAMS, task_of
from vitrim.runs.inspecting_programs import refuse_other_machine
from vitrim.runs.opening import open_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from vitrim.network.model import StagedViT

SUFFIXES = PROGRAMS
MOST_CLASSES = 1_000_000


class ExportedModel(nn.Module):
    """Normalised images [B, C, height, width] in, logits [B, classes] out, like the model it was made from.

    Attributes:
        about: what was written into the file: methods, backbone, precision, versions.
        preprocess, classes, num_classes, task, scale: as of a `StagedViT`.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], about: dict[str, Any]) -> None:
        super().__init__()
        self.about = about
        self.preprocess = Preprocess.from_json(about["preprocess"])
        self.classes = None if about["classes"] is None else tuple(about["classes"])
        self.num_classes = int(about["num_classes"])
        self.raw = bool(about["raw"])
        self.task, self.scale = task_of(about, Path(about["file"]))
        self._run = run
        shape = (1, self.preprocess.channels, 1, 1)
        self._mean = torch.tensor(self.preprocess.mean).view(shape)
        self._std = torch.tensor(self.preprocess.std).view(shape)

    def forward(self, images: Tensor) -> Tensor:
        if self.raw:
            pixels = (images.cpu() * self._std + self._mean) * 255
            prepared = pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        else:
            prepared = images.cpu()
        return self._run(prepared).to(images.device)


def is_exported(path: str | Path) -> bool:
    """Whether this is the name of an exported file."""
    return Path(path).suffix.lower() in SUFFIXES


def open_answering(
    path: str | Path, trust: bool = False, image_size: int | tuple[int, int] | None = None
) -> StagedViT:
    """A run, a saved model, or an exported file, which answers like the model it was made from."""
    if not is_exported(path):
        return open_model(path, image_size=image_size)
    if image_size is not None:
        raise ValueError("an exported file takes images of one size; export the run again at another one")
    return cast("StagedViT", open_exported(path, trust))


def open_exported(path: str | Path, trust: bool = False) -> ExportedModel:
    """A file that `vitrim export` wrote, ready to run on the CPU.

    Args:
        trust: needed for a .pt2 file, which is a program: opening one can run anything its author put in.

    Raises:
        ValueError: for a file that vitrim did not export, or a .pt2 file without `trust`.
        FileNotFoundError: if there is none.
    """
    file = Path(path)
    if not is_exported(file):
        raise ValueError(f"{file.name!r} is no exported file; those end in {' or '.join(SUFFIXES)}")
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    if file.suffix.lower() == ".onnx":
        return _open_onnx(file)
    if not trust:
        raise ValueError(
            f"{file.name} is a program, and opening it can run whatever its author put in; if you made it or "
            "know who did, say so with --trust (trust=True); an .onnx file needs no trust"
        )
    return _open_pt2(file)


def _open_onnx(file: Path) -> ExportedModel:
    try:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf
    except ModuleNotFoundError:
        raise ValueError("running an .onnx file needs ONNX Runtime; pip install 'vitrim[export]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, InvalidProtobuf) as error:
        raise ValueError(f"{file} cannot be read as an ONNX model: {str(error).splitlines()[0]}") from None
    about = _read_about(session.get_modelmeta().custom_metadata_map.get(KEY), file)
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return ExportedModel(run, about)


def _open_pt2(file: Path) -> ExportedModel:
    extra = {KEY: ""}
    try:
        program = torch.export.load(file, extra_files=extra)
    except (RuntimeError, ValueError, KeyError, AssertionError, OSError, BadZipFile) as failed:
        return _open_compiled(file, str(failed))
    module = program.module()

    def run(images: Tensor) -> Tensor:  # its modules have no modes, and refuse to be asked for one
        logits: Tensor = module(images)
        return logits

    return ExportedModel(run, _read_about(extra[KEY], file))


def _open_compiled(file: Path, failed: str) -> ExportedModel:
    """A package of AOTInductor; `failed` says why it is no ordinary program."""
    refuse_other_machine(file)
    try:
        compiled = torch._inductor.aoti_load_package(str(file))
    except (RuntimeError, ValueError, KeyError, AssertionError, OSError, BadZipFile):
        raise ValueError(f"{file} cannot be read as a .pt2 file: {failed.splitlines()[0]}") from None
    return ExportedModel(compiled, _read_about(compiled.get_metadata().get(KEY), file))


def _read_about(text: str | bytes | None, file: Path) -> dict[str, Any]:
    """What the export wrote about the model."""
    try:
        about = json.loads(text or "")
        Preprocess.from_json(about["preprocess"])
        count, classes = about["num_classes"], about["classes"]
        complete = isinstance(count, int) and 0 <= count <= MOST_CLASSES and isinstance(about["raw"], bool)
        named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        complete = complete and (classes is None or (named and len(classes) == count))
    except (ValueError, KeyError, TypeError, RecursionError):
        complete = False
    if not complete:
        raise ValueError(
            f"{file.name} does not say what it takes and gives: vitrim did not export it, so size, mean and "
            "classes are unknown; export the run again with vitrim export"
        )
    return {**about, "file": file.name}
