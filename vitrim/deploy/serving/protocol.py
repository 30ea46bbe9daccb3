"""The Open Inference Protocol, version 2, over HTTP: what KServe, Triton and their clients speak.

An adapter is a model of that protocol. Its one input, "images", is FP32 [-1, C, height, width], normalised as
the metadata say, or BYTES [-1]: image files, decoded here, as OpenVINO's server takes them.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response
from torch import Tensor

from vitrim.deploy.serving.predicting import Served
from vitrim.deploy.serving.refusal import Refusal
from vitrim.deploy.serving.service import Adapter
from vitrim.deploy.serving.tensors import (
    HEADER_LENGTH,
    Asked,
    Values,
    files_in,
    images_in,
    read_request,
    write_answer,
)
from vitrim.runs.kinds import KINDS
from vitrim.runs.kinds.kind import output_names

router = APIRouter(prefix="/v2")


@router.get("")
async def server_metadata() -> dict[str, Any]:
    return {"name": "vitrim", "version": version("vitrim"), "extensions": ["binary_tensor_data"]}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    return {"live": True}


@router.get("/health/ready")
async def ready(service: Served) -> dict[str, bool]:
    if service.closing:
        raise Refusal(503, "the server is shutting down")
    return {"live": True, "ready": True}


@router.get("/models/{name}")
async def model_metadata(name: str, service: Served) -> dict[str, Any]:
    adapter = service.find(name)
    about, preprocess = adapter.about, adapter.about.preprocessing
    return {
        "name": name,
        "platform": "pytorch_vitrim",
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, *_sides(adapter)]}],
        "outputs": [
            {
                "name": output,
                "datatype": datatype,
                "shape": [-1, about.outputs] if datatype == "FP32" else [-1],
            }
            for output, datatype in OUTPUTS[about.task].items()
        ],
        "parameters": {
            "task": about.task,
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": preprocess.interpolation,
            "crop": preprocess.crop,
            "classes": list(output_names(adapter.model)),
            "images": "FP32 as above, or BYTES [-1]: image files, in base64 where they stand in JSON",
        },
    }


@router.get("/models/{name}/ready")
async def model_ready(name: str, service: Served) -> dict[str, Any]:
    service.find(name)
    return {"name": name, "ready": True}


@router.post("/models/{name}/infer")
async def infer(name: str, request: Request, service: Served) -> Response:
    service.find(name)
    body, length = await request.body(), request.headers.get(HEADER_LENGTH)
    asked = await service.decoder.run(lambda: read_request(body, length))
    if asked.datatype not in ("FP32", "BYTES"):
        raise Refusal(400, f"images are FP32 or BYTES, got {asked.datatype[:20]!r}")
    with service.holding(name, max(1, asked.shape[0] if asked.shape else 1)) as adapter:
        if asked.datatype == "FP32":
            images = await service.decoder.run(lambda: images_in(asked, _sides(adapter)))
            logits = await service.logits_of(adapter, images)
        else:
            files = await service.decoder.run(lambda: files_in(asked))
            logits = await service.logits(
                adapter, [(f"image {index}", file) for index, file in enumerate(files)]
            )
        return await service.decoder.run(lambda: _answer(adapter, logits, asked))


@router.get("/models/{name}/versions/{number}")
@router.get("/models/{name}/versions/{number}/ready")
@router.post("/models/{name}/versions/{number}/infer")
async def no_versions(name: str, number: str) -> Response:
    raise Refusal(404, "adapters have no versions; leave /versions/... out")


OUTPUTS = {
    "classify": {"logits": "FP32", "probabilities": "FP32", "classes": "BYTES"},
    "multilabel": {"logits": "FP32", "probabilities": "FP32"},
    "regress": {"logits": "FP32", "values": "FP32"},
}


def _sides(adapter: Adapter) -> tuple[int, int, int]:
    preprocess = adapter.about.preprocessing
    return preprocess.channels, *preprocess.image_size


def _answer(adapter: Adapter, logits: Tensor, asked: Asked) -> Response:
    outputs: dict[str, Values] = {"logits": logits.float()}
    about = adapter.about
    if about.task == "classify":
        names = output_names(adapter.model)
        outputs["probabilities"] = logits.float().softmax(1)  # [B, classes]
        outputs["classes"] = [names[index] for index in logits.argmax(1).tolist()]
    else:
        outputs[list(OUTPUTS[about.task])[1]] = KINDS[about.task].answers(adapter.model, logits)
    body, headers = write_answer({"model_name": adapter.name}, outputs, asked)
    return Response(body, headers=dict(headers))
