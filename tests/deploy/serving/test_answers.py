"""Every answer is that of `vitrim predict` for the same file, whatever its format, form and company."""

import asyncio
import base64
import json
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from served import CLASSES, Answer, Pool, ask, client, pictures, same, together

from vitrim.cli.main import main
from vitrim.deploy.pool import AdapterPool
from vitrim.deploy.serving.application import make_application

PICTURES = pictures()
TOP = 2


@pytest.fixture(scope="module")
def offline(
    files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Answer]:
    """What the verb says, by adapter and picture."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, content in PICTURES.items():
        (folder / name).write_bytes(content)
    found = {}
    for adapter, file in files.items():
        out = folder / f"{adapter}.json"
        assert main(["predict", str(file), str(folder), "--top", str(TOP), "--json", str(out)]) == 0
        for row in json.loads(out.read_text()):
            said = [(guess["class"], guess["probability"]) for guess in row["predictions"]]
            found[adapter, Path(row["path"]).name] = said
    return found


def said(answer: httpx.Response, index: int = 0) -> Answer:
    assert answer.status_code == 200, answer.text
    return [
        (guess["class"], guess["probability"]) for guess in answer.json()["results"][index]["predictions"]
    ]


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("adapter", CLASSES)
def test_bytes_are_answered_as_offline(
    application: FastAPI, offline: dict[tuple[str, str], Answer], adapter: str, name: str
) -> None:
    params = {"adapter": adapter, "top": TOP}
    answer = ask(application, "POST", "/v1/predict", params=params, content=PICTURES[name])
    same(said(answer), offline[adapter, name])
    assert answer.json()["adapter"] == adapter


def test_pictures_differ_and_so_do_adapters(offline: dict[tuple[str, str], Answer]) -> None:
    assert len({tuple(answer) for answer in offline.values()}) == len(offline)


def test_a_form_is_answered_file_by_file(
    application: FastAPI, offline: dict[tuple[str, str], Answer]
) -> None:
    files = [("image", (name, content)) for name, content in PICTURES.items()]
    params = {"adapter": "lora", "top": TOP}
    answer = ask(application, "POST", "/v1/predict", params=params, files=files)
    for index, name in enumerate(PICTURES):
        same(said(answer, index), offline["lora", name])
        assert answer.json()["results"][index]["picture"] == name


def test_base64_is_answered_alone_and_as_a_list(
    application: FastAPI, offline: dict[tuple[str, str], Answer]
) -> None:
    texts = {name: base64.b64encode(content).decode() for name, content in PICTURES.items()}
    params = {"adapter": "sparse", "top": TOP}
    one = ask(application, "POST", "/v1/predict", params=params, json={"image": texts["turned.jpg"]})
    same(said(one), offline["sparse", "turned.jpg"])
    every = ask(application, "POST", "/v1/predict", params=params, json={"images": list(texts.values())})
    for index, name in enumerate(PICTURES):
        same(said(every, index), offline["sparse", name])


def test_many_at_once_for_many_adapters_share_batches(
    pool: AdapterPool, offline: dict[tuple[str, str], Answer]
) -> None:
    watched = Pool(pool)
    application = make_application(watched)

    async def every() -> list[httpx.Response]:
        async with client(application) as http:
            return await asyncio.gather(
                *(
                    http.post("/v1/predict", params={"adapter": adapter, "top": TOP}, content=PICTURES[name])
                    for adapter, name in offline
                )
            )

    for (adapter, name), answer in zip(offline, together(every()), strict=True):
        same(said(answer), offline[adapter, name])
    assert sum(map(len, watched.batches)) == len(offline)
    assert len(watched.batches) < len(offline) / 2
    assert any(len(set(batch)) > 1 for batch in watched.batches)


def test_one_adapter_need_not_be_named(pool: AdapterPool, files: dict[str, Path]) -> None:
    alone = AdapterPool(files["lora"])
    alone.add("only", files["lora"])
    answer = ask(make_application(alone), "POST", "/v1/predict", content=PICTURES["plain.png"])
    assert answer.json()["adapter"] == "only" and answer.json()["task"] == "classify"
