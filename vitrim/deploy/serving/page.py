"""The page at `/`: what is loaded, and a place to drop a picture. It asks nothing of any other machine."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

router = APIRouter(include_in_schema=False)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page_file(name: str, kind: str) -> Response:
    """A file that lies beside this one, under a policy that keeps the browser to this server."""
    content = files(__package__).joinpath("page", name).read_bytes()
    headers = {"content-security-policy": POLICY, "referrer-policy": "no-referrer"}
    return Response(content, headers=headers, media_type=kind)


@router.get("/")
async def page() -> Response:
    return page_file("page.html", "text/html; charset=utf-8")


@router.get("/page.css")
async def style() -> Response:
    return page_file("page.css", "text/css; charset=utf-8")


@router.get("/page.js")
async def script() -> Response:
    return page_file("page.js", "text/javascript; charset=utf-8")
