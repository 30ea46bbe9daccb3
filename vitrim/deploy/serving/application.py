"""The application: adapters behind routes, routes behind the door.

    application = make_application(pool, Serving(token="..."), routers=(my_router,), pages=("/my-page",))

It is an ASGI application like any other: `server.py` runs it with uvicorn, Ray Serve can run the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from vitrim.deploy.pool import AdapterPool
from vitrim.deploy.serving import changing, page, predicting, protocol
from vitrim.deploy.serving.access import Access
from vitrim.deploy.serving.door import Door
from vitrim.deploy.serving.predicting import Served
from vitrim.deploy.serving.refusal import Refusal
from vitrim.deploy.serving.service import Service
from vitrim.deploy.serving.settings import Serving
from vitrim.reading import short

metrics_router = APIRouter()


def make_application(
    pool: AdapterPool,
    serving: Serving | None = None,
    routers: Sequence[APIRouter] = (),
    pages: Collection[str] = (),
    service: Service | None = None,
) -> FastAPI:
    """The HTTP application over a pool of adapters.

    Args:
        pool: the adapters, loaded already.
        serving: limits and access; the usual ones where None.
        routers: further routes. A route finds the adapters, the decoder and the batches in
            `request.app.state.service`.
        pages: their paths that need no token.
        service: what answers, where not this process computes.
    """
    service = service or Service(pool, serving or Serving())
    access = Access(service.serving, pages)
    application = FastAPI(
        title="vitrim", version=version("vitrim"), lifespan=_lifespan, docs_url=None, redoc_url=None
    )  # FastAPI's pages of documentation load scripts from elsewhere
    application.state.service, application.state.access = service, access
    for router in (
        page.router,
        predicting.router,
        changing.router,
        protocol.router,
        metrics_router,
        *routers,
    ):
        application.include_router(router)
    application.add_exception_handler(Refusal, _refused)
    application.add_exception_handler(HTTPException, _http)
    application.add_exception_handler(RequestValidationError, _invalid)
    application.add_middleware(Door, service=service, access=access)
    return application


@asynccontextmanager
async def _lifespan(application: FastAPI) -> AsyncIterator[None]:
    yield
    application.state.service.closing = True
    await asyncio.to_thread(application.state.service.close)


@metrics_router.get("/metrics")
async def metrics(service: Served) -> Response:
    """What Prometheus reads."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _refused(request: Request, error: Any) -> Response:
    return Response(error.body(), error.status, error.headers, "application/json")


async def _http(request: Request, error: Any) -> Response:
    """What Starlette refuses itself: no such path, another method, a form that cannot be read."""
    sentences = {404: f"there is no {short(request.url.path)}", 405: f"{request.method} cannot be used here"}
    return JSONResponse(
        {"error": sentences.get(error.status_code, str(error.detail))}, error.status_code, error.headers
    )


async def _invalid(request: Request, error: Any) -> Response:
    """A value in the address that has another type."""
    first = error.errors()[0]
    wanted = "must be a whole number" if first["type"].startswith("int") else first["msg"]
    return JSONResponse({"error": f"{first['loc'][-1]} {wanted}, got {short(first['input'])}"}, 400)
