"""The page at `/`: what is loaded, and a place to drop a picture. It asks nothing of any other machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files

from fastapi import APIRouter, Response

FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js",
         "/base.css": "base.css", "/base.js": "base.js"}  # fmt: skip
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page_router(pages: Mapping[str, str], package: str) -> APIRouter:
    """Routes to files in the folder `page` of a package, under a policy that keeps the browser to this
    server."""
    router = APIRouter(include_in_schema=False)
    for path, name in pages.items():
        router.add_api_route(path, _answering(package, name), methods=["GET"])
    return router


def _answering(package: str, name: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        content = files(package).joinpath("page", name).read_bytes()
        headers = {"content-security-policy": POLICY, "referrer-policy": "no-referrer"}
        kind = KINDS[name.rpartition(".")[2]]
        return Response(content, headers=headers, media_type=f"{kind}; charset=utf-8")

    return answer


router = page_router(FILES, __package__)
