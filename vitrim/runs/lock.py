"""One process at a time writes a run folder. The lock dies with its process, however that ends."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from vitrim.writing import write_whole, writing

LOCK, HOLDER = ".lock", ".holder"  # who holds it is no part of the lock, which others may open and empty


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, or refuse, naming who holds it.

    Raises:
        BlockingIOError: if another process trains in this folder.
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
            f"{folder} is being trained in by another process ({_holder(folder)}); wait until it has ended, "
            "or stop it, and then resume"
        )
    try:
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now(UTC):%F %T} UTC"}
        write_whole(folder / HOLDER, json.dumps(mine).encode())
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    """Who holds the lock, as far as it has said so."""
    try:
        told = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"process {int(told['pid'])} on {told['host']!s:.60}, since {told['since']!s:.30}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said which"
