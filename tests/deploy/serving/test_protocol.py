"""The Open Inference Protocol: what its clients read and send, in JSON and with bytes after it."""

import base64
import json
import struct
from importlib.metadata import version
from typing import Any

import httpx
import numpy
import pytest
import torch
from fastapi import FastAPI
from served import CLASSES, ask, pictures

from vitrim.deploy.pool import AdapterPool
from vitrim.runs.predict import predict

PICTURES = pictures()
LENGTH = "inference-header-content-length"
SIDES = [3, 96, 96]


def infer(application: FastAPI, body: Any, adapter: str = "lora") -> httpx.Response:
    return ask(application, "POST", f"/v2/models/{adapter}/infer", json=body)


def packed(application: FastAPI, head: Any, rest: bytes, adapter: str = "lora") -> httpx.Response:
    text = json.dumps(head).encode()
    headers = {LENGTH: str(len(text)), "content-type": "application/octet-stream"}
    return ask(application, "POST", f"/v2/models/{adapter}/infer", content=text + rest, headers=headers)


def one(datatype: str, shape: list[int], data: Any = None, **more: Any) -> dict[str, Any]:
    given = {} if data is None else {"data": data}
    return {"inputs": [{"name": "images", "datatype": datatype, "shape": shape, **given, **more}]}


def outputs(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {output["name"]: output for output in answer.json()["outputs"]}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, *SIDES, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def logits(pool: AdapterPool, images: torch.Tensor) -> torch.Tensor:
    return pool.logits(images, "lora")


def close(values: list[float], expected: torch.Tensor) -> None:
    torch.testing.assert_close(torch.tensor(values).reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


def test_the_server_and_its_models_describe_themselves(application: FastAPI) -> None:
    assert ask(application, "GET", "/v2").json() == {
        "name": "vitrim", "version": version("vitrim"), "extensions": ["binary_tensor_data"],
    }  # fmt: skip
    assert ask(application, "GET", "/v2/health/live").json() == {"live": True}
    assert ask(application, "GET", "/v2/health/ready").json()["ready"] is True
    assert ask(application, "GET", "/v2/models/lora/ready").json() == {"name": "lora", "ready": True}
    about = ask(application, "GET", "/v2/models/sparse").json()
    assert about["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, *SIDES]}]
    assert about["outputs"][0] == {"name": "logits", "datatype": "FP32", "shape": [-1, 6]}
    assert about["parameters"]["classes"] == list(CLASSES["sparse"])
    for path in ("/v2/models/nobody", "/v2/models/nobody/ready", "/v2/models/lora/versions/1"):
        assert ask(application, "GET", path).status_code == 404


@pytest.mark.parametrize("nested", [True, False])
def test_normalised_images_in_json(
    application: FastAPI, images: torch.Tensor, logits: torch.Tensor, nested: bool
) -> None:
    data = images.tolist() if nested else images.flatten().tolist()
    answer = infer(application, {"id": "42", **one("FP32", [2, *SIDES], data)})
    assert answer.json()["id"] == "42" and answer.json()["model_name"] == "lora"
    found = outputs(answer)
    assert found["logits"]["shape"] == [2, 4] and found["logits"]["datatype"] == "FP32"
    close(found["logits"]["data"], logits)
    close(found["probabilities"]["data"], logits.softmax(1))
    assert found["classes"]["data"] == [CLASSES["lora"][index] for index in logits.argmax(1).tolist()]


def test_bytes_in_and_out(application: FastAPI, images: torch.Tensor, logits: torch.Tensor) -> None:
    content = images.numpy().astype("<f4").tobytes()
    head = one("FP32", [2, *SIDES], parameters={"binary_data_size": len(content)})
    wanted = [{"name": "classes", "parameters": {"binary_data": True}}, {"name": "probabilities"}]
    answer = packed(application, {**head, "outputs": wanted}, content)
    length = int(answer.headers[LENGTH])
    described = json.loads(answer.content[:length])["outputs"]
    assert [output["name"] for output in described] == ["classes", "probabilities"]
    close(described[1]["data"], logits.softmax(1))
    names = [CLASSES["lora"][index].encode() for index in logits.argmax(1).tolist()]
    expected = b"".join(struct.pack("<I", len(name)) + name for name in names)
    assert answer.content[length:] == expected
    assert described[0]["parameters"]["binary_data_size"] == len(expected)


def test_all_outputs_as_bytes(application: FastAPI, images: torch.Tensor, logits: torch.Tensor) -> None:
    content = images.numpy().astype("<f4").tobytes()
    head = one("FP32", [2, *SIDES], parameters={"binary_data_size": len(content)})
    asked = {**head, "parameters": {"binary_data_output": True}, "outputs": [{"name": "logits"}]}
    answer = packed(application, asked, content)
    values = numpy.frombuffer(answer.content[int(answer.headers[LENGTH]) :], "<f4")
    close(values.tolist(), logits)


@pytest.mark.parametrize("adapter", CLASSES)
def test_image_files_in_json_and_as_bytes(application: FastAPI, pool: AdapterPool, adapter: str) -> None:
    files = list(PICTURES.values())
    texts = [base64.b64encode(file).decode() for file in files]
    found = outputs(infer(application, one("BYTES", [len(files)], texts), adapter))
    content = b"".join(struct.pack("<I", len(file)) + file for file in files)
    parameters = {"binary_data_size": len(content)}
    again = outputs(packed(application, one("BYTES", [len(files)], parameters=parameters), content, adapter))
    name = "values" if adapter == "numbers" else "probabilities"
    shares = torch.tensor(found[name]["data"]).reshape(found[name]["shape"])
    close(again[name]["data"], shares)
    for index, file in enumerate(files):
        said = predict(pool.model(adapter), file, top=len(CLASSES[adapter]))
        by_name = {guess.name: guess.probability for guess in said}
        close([by_name[name] for name in CLASSES[adapter]], shares[index])
        if adapter in ("lora", "sparse"):
            assert found["classes"]["data"][index] == said[0].name


TEXT = base64.b64encode(PICTURES["plain.png"]).decode()
WRONG: dict[str, tuple[Any, int, str]] = {
    "no inputs": ({}, 400, "list of the one input"),
    "two inputs": ({"inputs": [*one("BYTES", [1], [TEXT])["inputs"]] * 2}, 400, "list of the one input"),
    "another input": (
        {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [TEXT]}]},
        400,
        "'x'",
    ),
    "another type": (one("INT64", [1], [1]), 400, "FP32 or BYTES, got 'INT64'"),
    "no type": ({"inputs": [{"name": "images", "shape": [1]}]}, 400, "'datatype' must be a text"),
    "no shape": ({"inputs": [{"name": "images", "datatype": "FP32"}]}, 400, '"shape"'),
    "a negative shape": (one("BYTES", [-1], [TEXT]), 400, '"shape"'),
    "a shape of booleans": (one("BYTES", [True], [TEXT]), 400, '"shape"'),
    "another shape": (one("FP32", [1, 3, 8, 8], [0.0] * 192), 400, "[-1, 3, 96, 96], got [1, 3, 8, 8]"),
    "no images": (one("FP32", [0, *SIDES], []), 400, "must have the shape"),
    "many images": (one("FP32", [10**6, *SIDES], [0.0]), 413, "at most 256"),
    "fewer values": (one("FP32", [1, *SIDES], [0.0]), 400, "does not fit its 1 values"),
    "texts for values": (one("FP32", [1, *SIDES], ["0"]), 400, "must be numbers"),
    "ragged values": (one("FP32", [1, *SIDES], [[0.0], [0.0, 1.0]]), 400, "must be numbers"),
    "no values": (one("FP32", [1, *SIDES]), 400, "must be numbers"),
    "values beyond FP32": (one("FP32", [1, *SIDES], [1e300] * (3 * 96 * 96)), 400, "finite"),
    "fewer files": (one("BYTES", [2], [TEXT]), 400, "does not fit its 1 images"),
    "files of two axes": (one("BYTES", [1, 1], [TEXT]), 400, "must have the shape [-1]"),
    "no file": (one("BYTES", [1], ["AAAA"]), 422, "image 0 is not an image"),
    "no base64": (one("BYTES", [1], ["?"]), 400, "not valid base64"),
    "another output": ({**one("BYTES", [1], [TEXT]), "outputs": [{"name": "x"}]}, 400, "there are logits"),
    "outputs of text": ({**one("BYTES", [1], [TEXT]), "outputs": ["logits"]}, 400, "list of objects"),
    "an id of a number": ({**one("BYTES", [1], [TEXT]), "id": 5}, 400, '"id" must be a text'),
    "bytes that are not there": (one("BYTES", [1], parameters={"binary_data_size": 9}), 400, "but 0 bytes"),
    "parameters of text": (one("BYTES", [1], parameters="x"), 400, '"parameters"'),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(application: FastAPI, name: str) -> None:
    body, status, phrase = WRONG[name]
    answer = infer(application, body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert phrase in answer.json()["error"]


def test_numbers_that_are_none_are_refused(application: FastAPI) -> None:
    text = json.dumps(one("FP32", [1, *SIDES], [float("nan")] * (3 * 96 * 96)))
    answer = ask(application, "POST", "/v2/models/lora/infer", content=text.encode())
    assert answer.status_code == 400 and "finite" in answer.json()["error"]


@pytest.mark.parametrize("content", [b"\x05\0\0\0abc", b"\xff\xff\xff\xff", b"\1\0"])
def test_bytes_that_end_too_early_are_refused(application: FastAPI, content: bytes) -> None:
    head = one("BYTES", [1], parameters={"binary_data_size": len(content)})
    answer = packed(application, head, content)
    assert answer.status_code == 400 and "end inside an image" in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "99999999999999999999999", "1.5", ""])
def test_a_length_that_cannot_be_is_refused(application: FastAPI, length: str) -> None:
    answer = ask(application, "POST", "/v2/models/lora/infer", content=b"{}", headers={LENGTH: length})
    assert answer.status_code == 400
