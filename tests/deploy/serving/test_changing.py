"""Adapters come and go while others answer; nothing is opened outside the folder given at start."""

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from served import Pool, ask, client, pictures, pool_of, together

import vitrim
from vitrim.deploy.pool import AdapterPool
from vitrim.deploy.serving.application import make_application
from vitrim.deploy.serving.settings import Serving

GOOD = pictures()["plain.png"]


@pytest.fixture(scope="module")
def root(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to load from, and an adapter that lies beside it."""
    folder = tmp_path_factory.mktemp("beside") / "root"
    (folder / "deeper").mkdir(parents=True)
    shutil.copy(files["sparse"], folder / "sparse.safetensors")
    shutil.copy(files["labels"], folder / "deeper" / "labels.safetensors")
    (folder / "text.safetensors").write_text("no adapter")
    shutil.copy(files["labels"], folder.parent / "outside.safetensors")
    (folder / "link.safetensors").symlink_to(folder.parent / "outside.safetensors")
    (folder / "circle").symlink_to(folder / "circle")
    return folder


@pytest.fixture(scope="module")
def alone(files: dict[str, Path]) -> AdapterPool:
    return pool_of({"lora": files["lora"]})


@pytest.fixture
def application(alone: AdapterPool, root: Path) -> Iterator[FastAPI]:
    yield make_application(alone, Serving(adapters_root=root))
    for name in alone.names():
        if name != "lora":
            alone.remove(name)


def names(application: FastAPI) -> list[str]:
    return [adapter["name"] for adapter in ask(application, "GET", "/v1/adapters").json()["adapters"]]


def load(application: FastAPI, source: object, name: object = "more") -> httpx.Response:
    return ask(application, "POST", "/v1/adapters", json={"name": name, "source": source})


@pytest.mark.parametrize(
    "source", ["sparse.safetensors", "deeper/labels.safetensors", "./deeper/../sparse.safetensors"]
)
def test_an_adapter_is_loaded_answers_and_is_taken_out(application: FastAPI, source: str) -> None:
    assert (
        ask(application, "POST", "/v1/predict", params={"adapter": "more"}, content=GOOD).status_code == 404
    )
    loaded = load(application, source)
    assert loaded.status_code == 201 and loaded.json()["name"] == "more" and loaded.json()["bytes"] > 0
    assert names(application) == ["lora", "more"]
    answer = ask(application, "POST", "/v1/predict", params={"adapter": "more"}, content=GOOD)
    best = vitrim.predict(application.state.service.serving.adapters_root / source, GOOD)[0]
    assert answer.json()["results"][0]["predictions"][0]["class"] == best.name
    assert 'adapter_bytes{adapter="more"}' in ask(application, "GET", "/metrics").text
    assert ask(application, "DELETE", "/v1/adapters/more").json() == {"removed": "more"}
    assert names(application) == ["lora"] == application.state.service.pool.names()
    assert "more" not in ask(application, "GET", "/metrics").text


def test_an_absolute_path_inside_is_inside(application: FastAPI, root: Path) -> None:
    assert load(application, str(root / "sparse.safetensors")).status_code == 201


@pytest.mark.parametrize(
    "source",
    [
        "../outside.safetensors", "link.safetensors", "{outside}", "/etc/passwd", "nothing.safetensors",
        "circle", "deeper/../../outside.safetensors", "\0", "x" * 5000,
    ],
)  # fmt: skip
def test_what_lies_outside_is_refused_like_what_is_not_there(
    application: FastAPI, root: Path, source: str
) -> None:
    answer = load(application, source.format(outside=root.parent / "outside.safetensors"))
    assert answer.status_code == 400 and answer.json()["error"].startswith("there is no ")
    assert names(application) == ["lora"]


@pytest.mark.parametrize(
    ("body", "status", "phrase"),
    [
        ({"name": "lora", "source": "sparse.safetensors"}, 409, "already"),
        ({"name": "a/b", "source": "sparse.safetensors"}, 400, "without /"),
        ({"name": "two\nlines", "source": "sparse.safetensors"}, 400, "one line"),
        ({"name": "", "source": "sparse.safetensors"}, 400, "one line"),
        ({"name": "x" * 101, "source": "sparse.safetensors"}, 400, "1 to 100"),
        ({"name": 5, "source": "sparse.safetensors"}, 400, "'name' as text, got 5"),
        ({"name": "more"}, 400, "'source' as text"),
        ({"name": "more", "source": "text.safetensors"}, 400, "not a readable safetensors file"),
        ([], 400, "JSON object"),
    ],
)
def test_what_cannot_be_loaded_changes_nothing(
    application: FastAPI, root: Path, body: Any, status: int, phrase: str
) -> None:
    answer = ask(application, "POST", "/v1/adapters", json=body)
    assert answer.status_code == status and phrase in answer.json()["error"]
    assert str(root.resolve()) not in answer.text
    assert names(application) == ["lora"] == application.state.service.pool.names()


def test_another_backbone_is_refused(application: FastAPI, root: Path) -> None:
    other = vitrim.compose("vit_tiny_patch16_224", "LoRA", num_classes=2)
    vitrim.save(other, root / "other.safetensors")
    answer = load(application, "other.safetensors")
    assert answer.status_code == 400 and "backbone" in answer.json()["error"]


def test_nothing_is_loaded_where_no_folder_was_given(alone: AdapterPool, files: dict[str, Path]) -> None:
    closed = make_application(alone)
    answer = load(closed, str(files["sparse"]))
    assert answer.status_code == 403 and "--adapters_root" in answer.json()["error"]


def test_an_adapter_answers_what_it_accepted_before_it_goes(files: dict[str, Path]) -> None:
    slow, go_on = Pool(pool_of({name: files[name] for name in ("lora", "sparse")})), threading.Event()
    slow.before = lambda adapters: go_on.wait(30) and None  # type: ignore[method-assign]
    application = make_application(slow)
    service = application.state.service

    async def leave() -> list[httpx.Response]:
        async with client(application) as http:
            asked = {"params": {"adapter": "lora"}, "content": GOOD}
            accepted = asyncio.ensure_future(http.post("/v1/predict", **asked))
            while not slow.batches:
                await asyncio.sleep(0.01)
            leaving = asyncio.ensure_future(http.delete("/v1/adapters/lora"))
            while "lora" in service.adapters:
                await asyncio.sleep(0.01)
            late = await http.post("/v1/predict", **asked)
            assert "lora" in slow.names() and not leaving.done()
            go_on.set()
            return [await accepted, await leaving, late]

    assert [answer.status_code for answer in together(leave())] == [200, 200, 404]
    assert slow.names() == ["sparse"]


def test_others_answer_while_adapters_come_and_go(application: FastAPI) -> None:
    async def both() -> list[int]:
        async with client(application) as http:
            asked = {"params": {"adapter": "lora"}, "content": GOOD}
            changes = 0
            answers: list[Any] = []

            async def change() -> None:
                nonlocal changes
                for _ in range(5):
                    body = {"name": "more", "source": "sparse.safetensors"}
                    assert (await http.post("/v1/adapters", json=body)).status_code == 201
                    assert (await http.delete("/v1/adapters/more")).status_code == 200
                    changes += 1

            working = asyncio.ensure_future(change())
            while not working.done():
                answers.append(await http.post("/v1/predict", **asked))
            await working
            return [answer.status_code for answer in answers]

    statuses = together(both())
    assert len(statuses) > 1 and set(statuses) == {200}


def test_a_change_is_done_whole_also_when_nobody_waits_for_it(alone: AdapterPool, root: Path) -> None:
    slow = Pool(alone)
    go_on = threading.Event()
    real = slow.real.add
    slow.add = lambda name, source: (go_on.wait(30), real(name, source))  # type: ignore[attr-defined]
    application = make_application(slow, Serving(adapters_root=root, timeout=0.2))

    async def give_up() -> int:
        async with client(application) as http:
            answer = await http.post("/v1/adapters", json={"name": "more", "source": "sparse.safetensors"})
            go_on.set()
            while application.state.service.changes:
                await asyncio.sleep(0.01)
            return answer.status_code

    assert together(give_up()) == 504
    assert names(application) == ["lora", "more"] == slow.names()
    alone.remove("more")
