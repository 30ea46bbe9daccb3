"""What cannot be answered is refused with its status and one sentence, and nothing of the machine in it."""

import base64
import logging
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from served import Pool, ask, drawing, encoded, huge_header, pictures

from vitrim.deploy.pool import AdapterPool
from vitrim.deploy.serving.application import make_application
from vitrim.deploy.serving.settings import Serving

GOOD = pictures()["plain.png"]
JSON = {"content-type": "application/json"}
TEXT = base64.b64encode(GOOD).decode()
REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no picture": ({"content": b"<html></html>"}, 422, "the picture is not an image"),
    "cut short": ({"content": GOOD[: len(GOOD) // 2]}, 422, "damaged or cut short"),
    "nothing": ({"content": b""}, 400, "no picture was sent"),
    "pixels": ({"content": huge_header()}, 413, "more pixels than"),
    "a bit too many pixels": ({"content": encoded(drawing(1, (1100, 1000)))}, 413, "1,100 x 1,000 pixels"),
    "no adapter": ({"content": GOOD, "params": {"adapter": "lorra"}}, 404, "did you mean lora"),
    "which adapter": ({"content": GOOD, "params": {}}, 400, "say which adapter"),
    "a misspelt question": ({"content": GOOD, "params": {"adapter": "lora", "topp": 3}}, 400, "mean top?"),
    "top of none": ({"content": GOOD, "params": {"adapter": "lora", "top": 0}}, 400, "between 1 and"),
    "top of words": ({"content": GOOD, "params": {"adapter": "lora", "top": "x"}}, 400, "whole number"),
    "top of too many": ({"content": GOOD, "params": {"adapter": "lora", "top": 5}}, 400, "(4), got 5"),
    "json that is none": ({"content": b"{", "headers": JSON}, 400, "not valid JSON"),
    "json too deep": ({"content": b"[" * 100_000, "headers": JSON}, 400, "not valid JSON"),
    "json of a list": ({"json": [TEXT]}, 400, "must be a JSON object"),
    "json without": ({"json": {}}, 400, 'either "image" or "images"'),
    "json with both": ({"json": {"image": TEXT, "images": [TEXT]}}, 400, 'either "image" or "images"'),
    "json mistyped": ({"json": {"imagge": TEXT}}, 400, "did you mean image"),
    "json of a number": ({"json": {"image": 7}}, 400, "must be a base64 text, got 7"),
    "json of no base64": ({"json": {"image": "%%%"}}, 400, "not valid base64"),
    "json of letters": ({"json": {"image": "ä"}}, 400, "not valid base64"),
    "json of an empty list": ({"json": {"images": []}}, 400, "must be a list"),
    "json, second bad": ({"json": {"images": [TEXT, "AAAA"]}}, 422, "image 1 is not an image"),
    "too many pictures": ({"json": {"images": [TEXT] * 9}}, 413, "at most 8"),
    "a form without files": ({"data": {"image": "x"}, "files": [("a", ("", b""))]}, 400, ""),
    "a form that is none": (
        {"content": b"xx", "headers": {"content-type": "multipart/form-data; boundary=a"}}, 400, "",
    ),
    "a form without a boundary": (
        {"content": b"xx", "headers": {"content-type": "multipart/form-data"}}, 400, "",
    ),
    "packed": ({"content": GOOD, "headers": {"content-encoding": "gzip"}}, 415, "Content-Encoding"),
    "too large": ({"content": bytes(1_000_001)}, 413, "larger than the 1,000,000 bytes"),
}  # fmt: skip


@pytest.fixture(scope="module")
def limited(pool: AdapterPool) -> FastAPI:
    return make_application(pool, Serving(queue=8, max_megapixels=1, max_megabytes=1))


@pytest.mark.parametrize("name", REFUSED)
def test_predict_refuses(limited: FastAPI, name: str) -> None:
    request, status, phrase = REFUSED[name]
    answer = ask(limited, "POST", "/v1/predict", **{"params": {"adapter": "lora"}, **request})
    assert (answer.status_code, list(answer.json())) == (status, ["error"]), answer.text
    assert phrase in answer.json()["error"]
    assert "\n" not in answer.json()["error"] and "0x" not in answer.json()["error"]
    assert limited.state.service.in_flight == 0


def test_it_still_answers_afterwards(limited: FastAPI) -> None:
    answer = ask(limited, "POST", "/v1/predict", params={"adapter": "lora"}, content=GOOD)
    assert answer.status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nope", 404), ("PUT", "/v1/adapters", 405)])
def test_what_there_is_not_is_refused_in_the_same_form(
    limited: FastAPI, method: str, path: str, status: int
) -> None:
    answer = ask(limited, method, path)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_an_adapter_that_fails_is_our_error_and_tells_nothing(
    pool: AdapterPool, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Pool(pool)

    def fail(adapters: object) -> None:
        raise RuntimeError("/secret/path")

    broken.before = fail  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        answer = ask(
            make_application(broken), "POST", "/v1/predict", params={"adapter": "lora"}, content=GOOD
        )
    assert answer.status_code == 500 and "secret" not in answer.text
    assert "/secret/path" in caplog.text


def test_outputs_that_are_no_numbers_are_not_given_as_such(pool: AdapterPool) -> None:
    broken = Pool(pool)
    broken.logits_grouped = lambda images, adapters: [images.new_full((4,), float("nan"))] * len(images)  # type: ignore[method-assign]
    answer = ask(make_application(broken), "POST", "/v1/predict", params={"adapter": "lora"}, content=GOOD)
    assert answer.status_code == 500 and "no numbers" in answer.json()["error"]


def test_a_router_of_ones_own_stands_behind_the_same_door(pool: AdapterPool) -> None:
    router = APIRouter()

    @router.get("/mine")
    async def mine() -> dict[str, int]:
        return {"answer": 42}

    for pages, status in (((), 401), (("/mine",), 200)):
        application = make_application(pool, Serving(token="secret"), (router,), pages)
        assert ask(application, "GET", "/mine").status_code == status


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70000}, {"queue": 0}, {"max_batch": 1.5}, {"timeout": 0}, {"max_wait": -1}, {"decoders": 0},
        {"max_megabytes": float("nan")}, {"max_megabytes": 500}, {"token": ""}, {"token": "two words"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"serve: .*{next(iter(wrong)).split('_')[0]}"):
        Serving(**wrong)
