"""The pictures in a request: the bytes of one file, a form with files, or JSON with base64."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from vitrim.checks import did_you_mean
from vitrim.deploy.serving.decoding import Decoder, Picture
from vitrim.deploy.serving.refusal import Refusal
from vitrim.reading import short
from vitrim.runs.prediction_files import printable

ASKED = 'send the bytes of an image file, a form with files, or JSON such as {"image": "BASE64"}'
LONGEST_FILE_NAME = 200


async def pictures_of(request: Request, decoder: Decoder, most: int) -> list[Picture]:
    """Every picture of a request, with what messages call it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _from_form(request, most)
    body = await request.body()
    if not body:
        raise Refusal(400, f"no picture was sent; {ASKED}")
    if kind == "application/json":
        return await decoder.run(lambda: _from_json(body))
    return [("the picture", body)]


async def _from_form(request: Request, most: int) -> list[Picture]:
    async with request.form(max_files=most, max_fields=most) as form:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise Refusal(400, "the form has no file; give its pictures as files (curl -F image=@photo.jpg)")
        return [(_called(file.filename, index), await file.read()) for index, file in enumerate(files)]


def _called(name: str | None, index: int) -> str:
    return printable(name)[:LONGEST_FILE_NAME] if name else f"image {index}"


def _from_json(body: bytes) -> list[Picture]:
    given = json_object(body)
    known = ("image", "images")
    for key in given:
        if key not in known:
            raise Refusal(400, f"the body has {short(key)}; {did_you_mean(key, known)}")
    if len(given) != 1:
        raise Refusal(400, 'the body needs either "image" or "images"')
    images = given.get("images", [given.get("image")])
    if not isinstance(images, list) or not images:
        raise Refusal(400, f'"images" must be a list of base64 texts, got {short(images)}')
    if "image" in given:
        return [("the picture", from_base64(images[0], "the picture"))]
    return [(f"image {index}", from_base64(text, f"image {index}")) for index, text in enumerate(images)]


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON object."""
    from pydantic_core import from_json

    try:
        value = from_json(body)
    except ValueError as error:
        raise Refusal(400, f"the body is not valid JSON ({short(error)})") from None
    if not isinstance(value, dict):
        raise Refusal(400, f"the body must be a JSON object, got {short(value)}")
    return value


def from_base64(text: object, called: str) -> bytes:
    """The bytes that base64 stands for."""
    if not isinstance(text, str):
        raise Refusal(400, f"{called} must be a base64 text, got {short(text)}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # of letters beyond ASCII
        raise Refusal(400, f"{called} is not valid base64") from None
