"""Processes of their own without their start: a program that behaves as `python`, but forks from one that has
imported torch, timm and vitrim and done nothing else.

Importing these takes several seconds of a processor, and the suite starts many processes: the runs of sweeps,
launchers, commands that are killed. Given the same arguments, environment, folder, pipes and signals they do
the same, with the same exit codes. Where the start itself is what is tested, take `sys.executable`.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

IMPORTED = ("torch", "torchvision", "timm", "accelerate", "vitrim.cli.main", "vitrim.training.loop")
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    asked = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(server, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(asked)
    process = int.from_bytes(server.recv(4), "big")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os.kill(process, number))
    code = int.from_bytes(server.recv(4), "big", signed=True)
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
QUIET = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)  # as a new Python is
_programs: list[str] = []  # of this process, if it has one


def python() -> str:
    """The program, or the interpreter itself where there is none: outside the tests, and not on Linux."""
    return _programs[-1] if _programs else sys.executable


class ForkedPython:
    """The program at `path`, until it is closed or this process ends."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "python"
        address = str(folder / "socket")
        self.path.write_text(CLIENT.format(python=sys.executable, address=address))
        self.path.chmod(0o755)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(address)
        listening.listen(16)
        for name in IMPORTED:
            import_module(name)
        gc.collect()
        gc.freeze()  # else every process begins by searching, and so copying, all that was imported
        ends, self._alive = os.pipe()
        self._server = _fork(lambda: _serve(listening, ends, self._alive, str(self.path)))
        os.close(ends)
        listening.close()
        _programs.append(str(self.path))

    def close(self) -> None:
        _programs.remove(str(self.path))
        os.close(self._alive)
        select.select([os.pidfd_open(self._server)], [], [], 5)  # seconds, where something still runs
        os.waitpid(self._server, os.WNOHANG)


def _fork(work: Callable[[], int]) -> int:
    """Do it in a child, which ends with what it returns; the child's number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work()
        finally:
            os._exit(code)
    return child


def _serve(listening: socket.socket, ends: int, alive: int, program: str) -> int:
    """Fork for every request, until the process that started this one has ended."""
    os.close(alive)
    faulthandler.disable()  # it would write to what is closed below
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    kept = sorted((listening.fileno(), ends))
    for low, high in zip((2, *kept), (*kept, 4096), strict=True):  # pipes of the launcher of the tests
        os.closerange(low + 1, high)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keepers: set[int] = set()
    while ends not in select.select([listening, ends], [], [])[0]:
        asking, _ = listening.accept()
        keepers.add(_fork(lambda asking=asking: _keep(asking, program)))
        asking.close()
        keepers = {keeper for keeper in keepers if os.waitpid(keeper, os.WNOHANG)[0] == 0}
    for keeper in keepers:
        os.waitpid(keeper, 0)
    return 0


def _keep(asking: socket.socket, program: str) -> int:
    """One request: run it in a child, say how it ended, and end it when who asked is gone."""
    length, standard, _, _ = socket.recv_fds(asking, 4, 3)
    arguments, environment, folder = json.loads(_exactly(asking, int.from_bytes(length, "big")))

    def run() -> int:
        asking.close()
        _become(standard, environment, folder, program)
        return _run(arguments)

    child = _fork(run)
    for descriptor in standard:
        os.close(descriptor)
    asking.sendall(child.to_bytes(4, "big"))
    ended = os.pidfd_open(child)
    if ended not in select.select([asking, ended], [], [])[0]:
        os.killpg(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError):
        asking.sendall(status.to_bytes(4, "big", signed=True))
    return 0


def _exactly(asking: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        found += asking.recv(length - len(found))
    return found


def _become(standard: list[int], environment: dict[str, str], folder: str, program: str) -> None:
    """What a new process starts from."""
    os.setsid()
    for number, given in enumerate(standard):
        os.dup2(given, number)
        os.close(given)
    sys.stdin, sys.stdout, sys.stderr = _text(0, "r"), _text(1, "w"), _text(2, "w", 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.executable = program
    sys.path[:0] = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    for category in QUIET:
        warnings.simplefilter("ignore", category)
    random.seed()


def _text(number: int, mode: str, buffering: int = -1) -> Any:
    return os.fdopen(number, mode, buffering, encoding="utf-8", errors="backslashreplace", closefd=False)


def _run(arguments: list[str]) -> int:
    """`python ARGUMENTS` with -c, -m or a file; its exit code."""
    code: object = 0
    try:
        _execute(arguments)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 0


def _execute(arguments: list[str]) -> None:
    if arguments[0] == "-u":
        arguments = arguments[1:]
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        sys.path.insert(0, "")
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(compile(arguments[1], "<string>", "exec"), vars(main))
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")
