"""Peak memory of a call, above what stood before it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

MIB = 2**20
STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(call: Callable[[], object], device: torch.device) -> float | None:
    """MiB that `call` takes at its peak above what was held before; None where the system does not tell.

    On a GPU of torch's allocator, on Linux of the whole process, after freed memory was given back.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    if not _forget_the_peak():
        return None
    held = _resident("VmRSS")
    call()
    return (_resident("VmHWM") - held) / MIB


def _forget_the_peak() -> bool:
    """Give freed memory back and start the peak anew."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        FORGET.write_text("5", encoding="ascii")
    except (OSError, AttributeError):  # not Linux, not glibc, or not allowed
        return False
    return True


def _resident(which: str) -> int:
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))
