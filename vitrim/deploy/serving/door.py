"""What every request passes before a route sees it, and every answer after: an application around another.

Access, the size of bodies (counted as they arrive, whatever is declared), the bytes of all bodies held at
once, and the time of a whole request are limited here. A route gets a body that is whole and within limits.
"""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitrim.deploy.serving.access import Access
from vitrim.deploy.serving.refusal import Refusal
from vitrim.deploy.serving.service import Service
from vitrim.deploy.serving.uploads import ClientGone, Held, Upload

log = logging.getLogger("vitrim.serving")


class Door:
    """Lets requests in, and answers those that may not enter."""

    def __init__(self, app: ASGIApp, service: Service, access: Access) -> None:
        self.app, self.service, self.access = app, service, access
        self.held = Held(service.serving.most_held)
        service.metrics.show("held_bytes", "Bytes of request bodies in memory", lambda: self.held.count)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # what is said on a WebSocket would pass no limit
            await send({"type": "websocket.close", "code": 1008})
            return
        started = time.perf_counter()
        answer = Answer(send)
        upload = Upload(receive, Headers(scope=scope), self.service.serving.most_bytes, self.held)
        try:
            await self._enter(scope, upload, answer)
        except ClientGone:
            answer.status = answer.status or 499
        except Refusal as refusal:
            await answer.refuse(refusal, close=not await upload.passed_over())
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if answer.status:  # begun: only breaking off tells the client
                raise
            await answer.refuse(Refusal(500, "the server failed at this request; its log says how"))
        finally:
            upload.let_go()
            route = getattr(scope.get("route"), "path", "none")
            seconds = time.perf_counter() - started
            self.service.metrics.requested(scope["method"], route, answer.status or 499, seconds)

    async def _enter(self, scope: Scope, upload: Upload, answer: Answer) -> None:
        seconds = self.service.serving.timeout
        try:
            async with asyncio.timeout(seconds) as limit:
                self.access.check(scope)
                await upload.read()
                await self.app(scope, upload.again, answer.send)
        except TimeoutError:
            if not limit.expired() or answer.status:
                raise
            if not upload.whole:
                raise Refusal(408, f"the request did not arrive within {seconds:g} s") from None
            raise Refusal(504, f"there was no answer within {seconds:g} s") from None


class Answer:
    """The way back: remembers the status, and adds what every answer carries."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-content-type-options"] = "nosniff"
            headers.setdefault("cache-control", "no-store")
        await self._send(message)

    async def refuse(self, refusal: Refusal, close: bool = False) -> None:
        body = refusal.body()
        given = {**refusal.headers, "content-type": "application/json", "content-length": str(len(body))}
        if close:
            given["connection"] = "close"
        headers = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
