"""A process that reads images and dies ends in a sentence, and the run goes on."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from forked_python import python
from small_runs import colour_folder, small_run

from vitrim.runs.batches import RepeatableImages

UNGUARDED = """
import multiprocessing, sys
import vitrim
multiprocessing.set_start_method("spawn", force=True)
vitrim.train(data=sys.argv[1], recipe="linear", out=sys.argv[2], quiet=True, cpu=True, image_size=32,
             training={"epochs": 1, "batch_size": 4, "workers": 1, "augment": "flip"})
"""


def test_a_killed_worker_is_a_sentence_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, parent, real = colour_folder(tmp_path / "colours"), os.getpid(), RepeatableImages.__getitem__

    def deadly(self: RepeatableImages, *arguments: Any) -> Any:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(RepeatableImages, "__getitem__", deadly)
        with pytest.raises(ChildProcessError, match="--resume --out"):
            small_run(tmp_path / "run", data, epochs=2, workers=1)
    assert small_run(tmp_path / "run", data, epochs=2, workers=1, resume=True).record["status"] == "finished"


def test_a_script_without_a_guard_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    data = colour_folder(tmp_path / "colours", per_class=4)
    done = subprocess.run(
        [python(), str(script), data, str(tmp_path / "run")],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode != 0
    assert 'if __name__ == "__main__":' in done.stderr.splitlines()[-1]
    assert "would train too" in done.stderr
    assert "bootstrapping" not in done.stderr
    assert not (tmp_path / "run").exists()


GUARDED = """
import multiprocessing, os, signal, sys
import vitrim
from vitrim.runs.batches import RepeatableImages

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn", force=True)
    vitrim.train(data=sys.argv[1], recipe="linear", out=sys.argv[2], quiet=True, cpu=True, image_size=32,
                 training={"epochs": 1, "batch_size": 4, "workers": 1, "augment": "flip"})
else:
    RepeatableImages.__getitem__ = lambda self, index: os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_guarded_script_whose_spawned_worker_is_killed_keeps_its_run(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(GUARDED)
    data = colour_folder(tmp_path / "colours", per_class=4)
    done = subprocess.run(
        [python(), str(script), data, str(tmp_path / "run")],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert "--resume --out" in done.stderr.splitlines()[-1]
    assert "__main__" not in done.stderr.splitlines()[-1]
    assert (tmp_path / "run" / "run.json").is_file()
