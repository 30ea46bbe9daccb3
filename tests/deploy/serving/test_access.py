"""Who may ask, and who may change what is loaded: the token, this machine, and other people's web pages."""

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from served import client, pictures, together

from vitrim.deploy.pool import AdapterPool
from vitrim.deploy.serving.application import make_application
from vitrim.deploy.serving.settings import Serving

TOKEN = "a-token-of-some-length"
SHOWN = {"authorization": f"Bearer {TOKEN}"}
FAR = ("192.0.2.7", 5000)
HERE = ("127.0.0.1", 5000)
LOAD: dict[str, Any] = {"json": {"name": "more", "source": "nothing"}}


def status(
    application: FastAPI,
    method: str,
    path: str,
    peer: tuple[str, int] = HERE,
    headers: Any = None,
    **options: Any,
) -> int:
    async def one() -> int:
        async with client(application, client=peer) as http:
            return (await http.request(method, path, headers=headers, **options)).status_code

    found: int = together(one())
    return found


@pytest.fixture(scope="module")
def locked(pool: AdapterPool) -> FastAPI:
    return make_application(pool, Serving(token=TOKEN, host="0.0.0.0"))


@pytest.fixture(scope="module")
def reachable(pool: AdapterPool) -> FastAPI:
    """Without a token, on all addresses."""
    return make_application(pool, Serving(host="0.0.0.0"))


ASKED = [
    ("GET", "/v1/adapters"), ("GET", "/metrics"), ("GET", "/v2"), ("GET", "/v2/models/lora"),
    ("GET", "/openapi.json"),
    ("POST", "/v1/predict?adapter=lora"), ("POST", "/v2/models/lora/infer"), ("POST", "/v1/adapters"),
    ("DELETE", "/v1/adapters/lora"), ("GET", "/nope"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ASKED)
@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer x",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xff",
    ],
)
def test_without_the_token_nothing_is_told(locked: FastAPI, method: str, path: str, header: str) -> None:
    headers = {"authorization": header.encode("latin-1")} if header else None
    assert status(locked, method, path, headers=headers) == 401


@pytest.mark.parametrize(
    "path", ["/", "/page.css", "/page.js", "/base.css", "/base.js", "/v2/health/live", "/v2/health/ready"]
)
def test_the_page_and_the_probes_need_no_token(locked: FastAPI, path: str) -> None:
    assert status(locked, "GET", path, FAR) == 200


def test_with_the_token_everything_is_answered_from_anywhere(locked: FastAPI) -> None:
    assert status(locked, "GET", "/v1/adapters", FAR, SHOWN) == 200
    content = pictures()["plain.png"]
    assert status(locked, "POST", "/v1/predict?adapter=lora", FAR, SHOWN, content=content) == 200
    assert status(locked, "DELETE", "/v1/adapters/nobody", FAR, SHOWN) == 404  # allowed, and not there


def test_without_a_token_others_may_ask_and_not_change(reachable: FastAPI) -> None:
    assert status(reachable, "GET", "/v1/adapters", FAR) == 200
    assert status(reachable, "DELETE", "/v1/adapters/lora", FAR) == 403
    assert status(reachable, "POST", "/v1/adapters", FAR, **LOAD) == 403
    assert status(reachable, "DELETE", "/v1/adapters/nobody") == 404


@pytest.mark.parametrize("name", ["forwarded", "x-forwarded-for", "via"])
def test_a_proxy_on_this_machine_is_not_this_machine(reachable: FastAPI, name: str) -> None:
    assert status(reachable, "DELETE", "/v1/adapters/lora", headers={name: "for=192.0.2.7"}) == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::"])
def test_a_name_that_was_made_to_lead_here_is_refused(
    application: FastAPI, reachable: FastAPI, host: str
) -> None:
    assert status(application, "GET", "/v1/adapters", headers={"host": host}) == 403
    assert status(reachable, "DELETE", "/v1/adapters/lora", headers={"host": host}) == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
def test_this_machines_names_are_answered(application: FastAPI, host: str) -> None:
    assert status(application, "GET", "/v1/adapters", headers={"host": host}) == 200


def test_another_sites_page_changes_nothing(application: FastAPI) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9999"):
        assert status(application, "DELETE", "/v1/adapters/lora", headers={"origin": origin}) == 403
    plain = {"content": b'{"name": "x", "source": "y"}', "headers": {"content-type": "text/plain"}}
    assert (
        status(application, "POST", "/v1/adapters", **plain) == 415
    )  # what a page may send without being asked
    own = {"origin": "http://127.0.0.1:8000"}
    assert status(application, "DELETE", "/v1/adapters/nobody", headers=own) == 404


def test_no_other_site_is_told_that_it_may_read(application: FastAPI) -> None:
    async def one() -> Any:
        async with client(application) as http:
            return await http.get("/v1/adapters", headers={"origin": "https://evil.example"})

    assert not [name for name in together(one()).headers if name.startswith("access-control")]


def test_the_token_is_not_shown_with_the_settings() -> None:
    assert TOKEN not in repr(Serving(token=TOKEN))


def test_a_websocket_of_an_added_router_passes_no_door(pool: AdapterPool) -> None:
    router = APIRouter()

    @router.websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()

    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/talk", "raw_path": b"/talk", "query_string": b"", "headers": []}
    application = make_application(pool, Serving(token=TOKEN), routers=(router,))
    together(application({**scope, "root_path": "", "subprotocols": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
