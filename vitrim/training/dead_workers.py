"""Processes that read images and end by themselves: what is said, and what is left behind."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

from vitrim.runs.folder import RunFolder

GUARD = 'put the call under  if __name__ == "__main__":  in your script'


def refuse_unguarded() -> None:
    """End a process that was started to read images and, importing the script, would train as well.

    So it goes where processes are spawned (Windows, macOS) and the script calls `train` at its top level.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(f"vitrim: a process that should read images would train too; {GUARD}")


@contextmanager
def workers_in_words(folder: RunFolder, fresh: bool) -> Iterator[None]:
    """Turn torch's error about a dead worker into a sentence. A fresh run whose spawned workers died before
    its first epoch was over leaves nothing behind.

    Raises:
        ChildProcessError: where a process that reads images has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        spawned = multiprocessing.get_start_method(allow_none=True) in ("spawn", "forkserver")
        if spawned and fresh and not folder.history():
            folder.remove()
            raise ChildProcessError(
                f"a process that reads images ended before the first epoch was over; {GUARD}, or train "
                "without such processes (workers=0)"
            ) from None
        raise ChildProcessError(
            "a process that reads images was killed, as systems do when memory runs out; "
            f"vitrim train --resume --out {folder.path} goes on, with fewer --workers or a smaller batch if "
            "it happens again"
        ) from None
