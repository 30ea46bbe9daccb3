"""Processes that read images and end by themselves: what is said, and what is left behind."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vitrim.runs.folder import RunFolder

TOLD = "VITRIM_UNGUARDED"  # names the file by which such a process tells the one that started it
GUARD = 'put the call under  if __name__ == "__main__":  in your script'


def refuse_unguarded() -> None:
    """End a process that was started to read images and, importing the script, would train as well.

    So it goes where processes are spawned (Windows, macOS) and the script calls `train` at its top level.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        if TOLD in os.environ:
            Path(os.environ[TOLD]).touch()
        raise SystemExit(f"vitrim: a process that should read images would train too; {GUARD}")


@contextmanager
def workers_in_words(folder: RunFolder, fresh: bool) -> Iterator[None]:
    """Turn torch's error about a dead worker into a sentence. A fresh run whose workers said that the script
    lacks its guard leaves nothing behind; one whose workers were killed can be resumed.

    Raises:
        ChildProcessError: where a process that reads images has ended.
    """
    with TemporaryDirectory() as place:
        told = Path(place) / "unguarded"
        before, os.environ[TOLD] = os.environ.get(TOLD), str(told)
        try:
            yield
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            if told.exists():
                if fresh and not folder.history():
                    folder.remove()
                raise ChildProcessError(
                    f"the processes that read images could not start; {GUARD}, or train "
                    "without them (workers=0)"
                ) from None
            raise ChildProcessError(
                "a process that reads images was killed, as systems do when memory runs out; "
                f"vitrim train --resume --out {folder.path} goes on, with fewer --workers or a smaller batch "
                "if it happens again"
            ) from None
        finally:
            if before is None:
                del os.environ[TOLD]
            else:
                os.environ[TOLD] = before
