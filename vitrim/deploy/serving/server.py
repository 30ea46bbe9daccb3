"""Running the application: a socket, uvicorn, and an end that answers what was accepted."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from vitrim.deploy.serving.settings import Serving

SPARE_SECONDS = 5
BACKLOG = 1024


def run_server(application: FastAPI, serving: Serving, say: Callable[[str], object]) -> None:
    """Answer until SIGTERM or Ctrl-C; then accept nothing more, answer what was accepted, and return.

    `say` is told the address, once it answers.
    """
    listening = listen(serving.host, serving.port)
    server = make_server(application, serving)
    say(address_of(listening))
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises its signal again after a whole end
            signal.signal(number, _ended)
    server.run(sockets=[listening])


def make_server(application: FastAPI, serving: Serving) -> uvicorn.Server:
    """uvicorn with our limits. h11 bounds headers and checks what it parses; the model is what takes time."""
    return uvicorn.Server(
        uvicorn.Config(
            application,
            http="h11",
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=math.ceil(serving.timeout) + SPARE_SECONDS,
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, or one sentence."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise ValueError(f"serve: {host!r} is no address of this machine ({error.strerror})") from None
    except OSError as error:
        reason = error.strerror if error.errno is None else os.strerror(error.errno)  # said once
        raise OSError(
            error.errno,
            f"cannot listen on port {port} of {host}: {reason}; give another --port, or 0",
        ) from None


def address_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _ended(number: int, frame: object) -> None:
    """The server has ended as it was told to: nothing is left to do."""
