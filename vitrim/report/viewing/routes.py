"""The page's files, and what it asks: which runs there are, and what one of them makes of a picture."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from vitrim.checks import did_you_mean
from vitrim.deploy.serving.bodies import pictures_of
from vitrim.deploy.serving.page import page_router
from vitrim.deploy.serving.predicting import Served
from vitrim.deploy.serving.refusal import Refusal, try_again
from vitrim.report.viewing.variants import Viewed

FILES = {"/view": "view.html", "/view.css": "view.css", "/view.js": "view.js"}
PAGES = tuple(FILES)
MOST_WAITING = 8


def view_router(runs: Mapping[str, Viewed]) -> APIRouter:
    """The routes of a page about some runs; uploads pass the server's own door and decoder."""
    router = APIRouter(include_in_schema=False)
    waiting = 0

    @router.get("/v1/view")
    async def about() -> dict[str, Any]:
        return {"runs": [run.about() for run in runs.values()]}

    @router.post("/v1/view")
    async def see(
        request: Request,
        service: Served,
        run: Annotated[str, Query()],
        value: Annotated[float | None, Query()] = None,
    ) -> dict[str, Any]:
        nonlocal waiting
        if run not in runs:
            raise Refusal(404, f"no run {run[:100]!r} here; {did_you_mean(run, runs)}")
        if waiting >= MOST_WAITING:
            raise try_again(f"{waiting} pictures wait already", 1)
        waiting += 1
        try:
            pictures = await pictures_of(request, service.decoder, service.serving.queue)
            if len(pictures) != 1:
                raise Refusal(400, f"view looks at one picture at a time, got {len(pictures)}")
            viewed = runs[run]
            image = await service.decoder.tensor(pictures[0], viewed.transform)
            return await asyncio.to_thread(viewed.see, image, value)
        except ValueError as error:
            raise Refusal(400, str(error)) from error
        finally:
            waiting -= 1

    router.include_router(page_router(FILES, __package__))
    return router
