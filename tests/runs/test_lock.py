"""One process at a time trains in a folder; the lock ends with its process."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from forked_python import python
from mutations import mutations
from small_runs import colour_folder, small_run

from vitrim.runs.folder import RunFolder
from vitrim.runs.lock import HOLDER, alone_in

HOLD = """
import os, sys, time
from pathlib import Path
from vitrim.runs.folder import RunFolder
from vitrim.runs.lock import alone_in
with alone_in(Path(sys.argv[1])):
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    data, out = colour_folder(tmp_path / "colours"), tmp_path / "run"
    small_run(out, data, epochs=1)
    other = subprocess.Popen([python(), "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    holder = int(other.stdout.readline())
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(BlockingIOError, match=rf"process {holder} on .* since 20"):
        small_run(out, data, epochs=1, resume=True)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    os.kill(holder, signal.SIGKILL)
    other.wait()
    small_run(out, data, epochs=1, resume=True)


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"), alone_in(tmp_path):
        raise RuntimeError("broken")
    with alone_in(tmp_path):
        assert (tmp_path / HOLDER).exists()
    assert not (tmp_path / HOLDER).exists()


def test_only_what_a_run_made_is_taken_back(tmp_path: Path) -> None:
    (tmp_path / ".env.local").write_text("mine")
    (tmp_path / ".run.json.12345.part").write_text("half")
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    folder.write_record({"status": "running"})
    folder.clear_leftovers()
    assert not (tmp_path / ".run.json.12345.part").exists()
    folder.remove()
    assert [entry.name for entry in tmp_path.iterdir()] == [".env.local"]
    with pytest.raises(FileExistsError, match="not empty"):
        RunFolder.create(tmp_path)


def test_whatever_the_holder_is_said_to_be_the_refusal_stands(tmp_path: Path) -> None:
    """Damaged, hostile or half-written: who holds the lock is told or not, but nothing else comes out."""
    with alone_in(tmp_path):
        said = json.loads((tmp_path / HOLDER).read_text())
        texts = [text for _, text in mutations(said)]
        texts += [
            "",
            "[]",
            "{",
            "[" * 100_000,
            '{"a":' * 100_000,
            '{"pid": 1e999, "host": "h", "since": "s"}',
        ]
        texts += [json.dumps(said | {"host": "a\x1b[31m"}), json.dumps(said | {"since": "x" * 10**6})]
        for text in texts:
            (tmp_path / HOLDER).write_text(text)
            with (
                pytest.raises(
                    BlockingIOError, match=r"is being trained in by another process \([^\x1b]{,200}\);"
                ),
                alone_in(tmp_path),
            ):
                pass
