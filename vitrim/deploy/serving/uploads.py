"""A request's body, read whole within limits, or passed over."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from vitrim.deploy.serving.refusal import Refusal, try_again

PASS_OVER_SECONDS = 5.0


class ClientGone(Exception):
    """The client hung up before its request was whole."""


class Held:
    """The bytes of all bodies in memory."""

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0


class Upload:
    """One body on its way in.

    Args:
        receive: what the server hands over next.
        headers: of the request.
        most: bytes that a body may have.
        held: what all bodies together hold.
    """

    def __init__(self, receive: Receive, headers: Headers, most: int, held: Held) -> None:
        self.receive, self.headers, self.most, self.held = receive, headers, most, held
        self.chunks: list[bytes] = []
        self.count = 0
        self.begun = self.whole = False
        self.body: bytes | None = None

    async def read(self) -> None:
        """Take the body in, counting what comes rather than believing what is declared."""
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(415, "bodies are taken as they are; send this one without Content-Encoding")
        declared = self.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self.most:
            raise self._too_large()
        while not self.whole:
            chunk = await self._next()
            self.count += len(chunk)
            self.held.count += len(chunk)
            if self.count > self.most:
                raise self._too_large()
            if self.held.count > self.held.most:
                raise try_again("too many bytes are being sent at once", 1)
            self.chunks.append(chunk)
        self.body = b"".join(self.chunks)
        self.chunks.clear()

    async def again(self) -> Message:
        """The body as a route receives it: at once, then whatever the server says next."""
        if self.body is None:
            return await self.receive()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def passed_over(self) -> bool:
        """Let the rest of a refused body pass, so that the client comes to read the answer; whether it ended.

        Nothing of it is kept. A client that asked first (Expect: 100-continue) sends nothing.
        """
        self.let_go()
        if "100-continue" in self.headers.get("expect", "").lower() and not self.begun:
            return False
        try:
            async with asyncio.timeout(PASS_OVER_SECONDS):
                while not self.whole:
                    await self._next()
        except (TimeoutError, ClientGone):
            return False
        return True

    def let_go(self) -> None:
        """The bytes are no longer held."""
        self.held.count -= self.count
        self.count = 0
        self.chunks.clear()

    async def _next(self) -> bytes:
        self.begun = True
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self.whole = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body is larger than the {self.most:,} bytes that this server takes")
