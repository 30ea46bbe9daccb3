"""torch.export programs with a free batch size, and the two file formats made from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from vitrim.deploy.inference import InferenceModel
from vitrim.deploy.portable import ONE_HOT, scatters

LARGEST_BATCH = 4096
KEY = "vitrim"  # where both kinds of file keep what is known about the model


def program_of(model: InferenceModel, portable: bool) -> ExportedProgram:
    """The model as one graph of operators; with `portable`, none of them scatters."""
    batch = {0: Dim("batch", min=1, max=LARGEST_BATCH)}
    with torch.no_grad():
        program = torch.export.export(model, (model.example(2),), dynamic_shapes=(batch,))
    if portable:
        program = program.run_decompositions(dict(ONE_HOT))
        if left := scatters(program):
            raise ValueError(
                f"a portable file must not scatter, but this composition needs {', '.join(left)}; "
                "export it without --portable"
            )
    return program


def write_pt2(program: ExportedProgram, about: Mapping[str, Any], path: Path) -> None:
    """For `torch.export.load`."""
    torch.export.save(program, path, extra_files={KEY: json.dumps(about)})


def write_compiled(program: ExportedProgram, about: Mapping[str, Any], path: Path) -> None:
    """Machine code by AOTInductor, for `torch._inductor.aoti_load_package`; needs a C++ compiler."""
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.exc import InductorError

    metadata = {"aot_inductor.metadata": {KEY: json.dumps(about)}}
    try:
        aoti_compile_and_package(program, package_path=str(path), inductor_configs=metadata)
    except (InductorError, RuntimeError, OSError) as error:
        raise ValueError(
            f"AOTInductor could not compile the model ({str(error).splitlines()[0]}); it needs a C++ "
            "compiler such as g++; without one, leave out --aot"
        ) from error


def write_onnx(program: ExportedProgram, about: Mapping[str, Any], path: Path) -> int:
    """For ONNX Runtime and whatever else reads ONNX; the opset is returned."""
    written = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits" if about["num_classes"] else "features"],
    )
    if written is None:
        raise RuntimeError("torch.onnx.export returned no program")
    model = written.model
    model.graph.inputs[0].shape = _with_free_batch(model.graph.inputs[0].shape)
    model.graph.outputs[0].shape = _with_free_batch(model.graph.outputs[0].shape)
    opset = int(model.opset_imports[""])
    model.metadata_props[KEY] = json.dumps({**about, "opset": opset})
    written.save(path, external_data=False)
    return opset


def _with_free_batch(shape: Any) -> Any:
    """The same shape with the first dimension called batch, as people look for it."""
    import onnx_ir

    return onnx_ir.Shape(["batch", *list(shape)[1:]])
