"""How a file appears: whole or not at all, and what is said when the system refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at every moment either the old content or the new one is there, never a part."""
    with whole_file(path) as stream:
        stream.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """The same for what does not fit into memory: the file takes its name when the block ends.

    What the block itself could not find or read keeps its own sentence.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.strerror is None or (error.filename is not None and str(error.filename) != str(temporary)):
            raise
        reason = f"cannot write {str(path)!r}: {error.strerror}; what was there before is unchanged"
        raise OSError(error.errno, reason) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusals to write into a sentence that names the file."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # a sentence already
            raise
        raise OSError(
            error.errno, f"cannot write {str(path)!r}: {error.strerror}; what was there is unchanged"
        ) from error
