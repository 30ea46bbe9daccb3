"""The quick stand-in for `python` that tests start processes with says what `python` says."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked_python import python

WAIT = """
import sys, time
try:
    print("up", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""
BROUGHT = "import os, sys; print(sys.stdin.read(), os.environ['WITH'], os.getcwd(), sys.argv, __name__)"


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('words')", 1, "words\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
    ],
)
def test_it_ends_as_python_ends(script: str, code: int, said: str) -> None:
    for program in (python(), sys.executable):
        done = subprocess.run([program, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == code and done.stderr.endswith(said)


def test_it_starts_from_what_python_starts_from(tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text(BROUGHT)
    for command in (["-c", BROUGHT, "one"], ["file.py", "one"], ["-m", "file", "one"]):
        found = [
            subprocess.run(
                [program, *command], env={**os.environ, "WITH": "this"}, cwd=tmp_path, input="read",
                capture_output=True, text=True, check=True,
            ).stdout
            for program in (python(), sys.executable)
        ]  # fmt: skip
        assert found[0] == found[1] and f"read this {tmp_path}" in found[0]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_signals_reach_it(sent: signal.Signals, code: int) -> None:
    with subprocess.Popen([python(), "-c", WAIT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(sent)
        assert process.stdout.read() == "" and process.wait() == code
