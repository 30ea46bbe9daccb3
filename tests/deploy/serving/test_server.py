"""A real server on loopback: what arrives in pieces, ends too early or is no HTTP; and how it ends itself."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from forked_python import python
from served import pictures, running_server

from vitrim.deploy.pool import AdapterPool
from vitrim.deploy.serving.application import make_application
from vitrim.deploy.serving.server import listen
from vitrim.deploy.serving.settings import Serving

GOOD = pictures()["plain.png"]
PATH = "/v1/predict?adapter=lora"


@pytest.fixture(scope="module")
def address(pool: AdapterPool) -> Iterator[str]:
    serving = Serving(max_megabytes=1, timeout=10)
    with running_server(make_application(pool, serving), serving) as found:
        yield found


def connection(address: str) -> socket.socket:
    host, _, port = address.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def head(length: str, *more: str) -> bytes:
    lines = (f"POST {PATH} HTTP/1.1", "Host: 127.0.0.1", length, *more, "", "")
    return "\r\n".join(line for line in lines if line or line == "").encode()


def answer(stream: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer."""
    with stream.makefile("rb") as file:
        status = int(file.readline().split()[1])
        length = 0
        while (line := file.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, file.read(length)


def answers(address: str) -> bool:
    return httpx.post(address + PATH, content=GOOD, timeout=30).status_code == 200


def test_many_connections_are_answered(address: str) -> None:
    def ask(_: int) -> httpx.Response:
        return httpx.post(address + PATH, content=GOOD, timeout=60, verify=False)  # no certificates to read

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(ask, range(64)))
    assert {one.status_code for one in found} == {200}
    assert len({one.json()["results"][0]["predictions"][0]["class"] for one in found}) == 1


def test_a_body_in_pieces_is_one_body(address: str) -> None:
    with connection(address) as stream:
        stream.sendall(head("Transfer-Encoding: chunked"))
        for start in range(0, len(GOOD), 500):
            piece = GOOD[start : start + 500]
            stream.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        stream.sendall(b"0\r\n\r\n")
        assert answer(stream)[0] == 200


def test_a_large_body_is_refused_and_the_connection_goes_on(address: str) -> None:
    with connection(address) as stream:
        stream.sendall(head("Content-Length: 5000000") + bytes(5_000_000))
        assert answer(stream)[0] == 413
        stream.sendall(head(f"Content-Length: {len(GOOD)}") + GOOD)
        assert answer(stream)[0] == 200


def test_a_large_body_without_a_length_is_refused(address: str) -> None:
    with connection(address) as stream:
        stream.sendall(head("Transfer-Encoding: chunked"))
        for _ in range(50):
            stream.sendall(b"186a0\r\n" + bytes(100_000) + b"\r\n")
        stream.sendall(b"0\r\n\r\n")
        status, body = answer(stream)
        assert status == 413 and "larger than" in json.loads(body)["error"]


def test_who_asks_first_is_told_before_sending(address: str) -> None:
    with connection(address) as stream:
        stream.sendall(head("Content-Length: 100000000", "Expect: 100-continue"))
        assert answer(stream)[0] == 413


@pytest.mark.parametrize("sent", [b"", b"\0\1\2 nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 200_000])
def test_no_http_does_no_harm(address: str, sent: bytes) -> None:
    with connection(address) as stream, suppress(OSError):  # it may hang up while we still send
        stream.sendall(sent)
    assert answers(address)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_who_hangs_up_half_way_is_forgotten(address: str, share: float) -> None:
    for _ in range(20):
        with connection(address) as stream:
            stream.sendall(head(f"Content-Length: {len(GOOD)}") + GOOD[: int(share * len(GOOD))])
    assert answers(address)
    deadline = time.monotonic() + 10
    while "held_bytes 0.0" not in httpx.get(f"{address}/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_hangs_up_before_the_answer_is_forgotten(address: str) -> None:
    for _ in range(10):
        with connection(address) as stream:
            stream.sendall(head(f"Content-Length: {len(GOOD)}") + GOOD)
    assert answers(address)


def test_a_taken_port_is_said_in_a_sentence(address: str) -> None:
    with pytest.raises(
        OSError,
        match=r"cannot listen on port \d+ of 127\.0\.0\.1: Address already in use; give another --port",
    ):
        listen("127.0.0.1", int(address.rpartition(":")[2]))
    with pytest.raises(ValueError, match="is no address of this machine"):
        listen("no.such.host.invalid", 0)


def test_the_verb_ends_after_answering_what_it_accepted(files: dict[str, Path]) -> None:
    command = [python(), "-m", "vitrim", "serve", f"lora={files['lora']}", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving lora: http://127.0.0.1:") and "Ctrl-C" in line
        found = line.split()[2]
        assert answers(found)
        with connection(found) as stream:
            stream.sendall(head(f"Content-Length: {len(GOOD)}") + GOOD[:200])  # accepted, not whole yet
            while "held_bytes 200.0" not in httpx.get(f"{found}/metrics").text:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.TransportError):
                while True:  # until it takes nothing more
                    httpx.get(f"{found}/v2/health/live")
                    time.sleep(0.05)
            stream.sendall(GOOD[200:])
            assert answer(stream)[0] == 200
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (0, "", "")
