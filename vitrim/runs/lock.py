"""One process at a time writes a run folder. The lock dies with its process, however that ends."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from vitrim.reading import read_json
from vitrim.writing import write_whole, writing

LOCK, HOLDER = ".lock", ".holder"  # who holds it is no part of the lock, which others may open and empty


@contextmanager
def alone_in(folder: Path, doing: str = "trained in", again: str = "resume") -> Iterator[None]:
    """Hold the lock of a run folder, or refuse, naming who holds it.

    Raises:
        BlockingIOError: if another process trains in this folder, or does there what `doing` says.
    """
    from filelock import FileLock, Timeout

    lock, taken = FileLock(folder / LOCK), True
    with writing(folder / LOCK):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            taken = False
    if not taken:
        raise BlockingIOError(
            f"{folder} is being {doing} by another process ({_holder(folder)}); wait until it has ended, "
            f"or stop it, and then {again}"
        )
    try:
        host = socket.gethostname()[:60] or "this machine"
        mine = {"pid": os.getpid(), "host": host, "since": f"{datetime.now(UTC):%F %T} UTC"}
        write_whole(folder / HOLDER, json.dumps(mine).encode())
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    """Who holds the lock, as far as it has said so."""
    from vitrim.runs.beside import Holder

    try:
        told = read_json(folder / HOLDER, Holder, most=4096)
    except (OSError, ValueError):  # the refusal itself stands, whatever lies there
        return "it has not said which"
    return f"process {told['pid']} on {told['host']}, since {told['since']}"
