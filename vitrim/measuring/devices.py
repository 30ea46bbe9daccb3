"""One place that starts Accelerate: CPU, one GPU, or many processes under `accelerate launch`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator


def start_accelerator(precision: str = "no", accumulate: int = 1, cpu: bool = False) -> Accelerator:
    """Accelerate for one run. A loader's batch is shared by the processes, so its size means the same
    whatever their number.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DataLoaderConfiguration

    if precision == "fp16" and (cpu or not torch.cuda.is_available()):
        raise ValueError("precision='fp16' needs a GPU; use 'bf16' or 'no' on the CPU")
    # Told to use no GPU, Accelerate joins the processes of torchrun on CPUs; else each would train alone
    cpu = cpu or not torch.accelerator.is_available()
    # Accelerate keeps its settings for the whole process: a second run could not choose another precision.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    return Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=accumulate,
        cpu=cpu,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )


@contextmanager
def repeatable(on: bool) -> Iterator[None]:
    """Let torch use only operations that give the same bits every time, and refuse the others."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        if on:
            torch.use_deterministic_algorithms(before[0])
            torch.backends.cudnn.benchmark = before[1]


def pick_device(device: str | None) -> torch.device:
    """The device asked for, or the GPU where there is one."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError):
        raise ValueError(f"device {device!r} cannot be used on this machine; use cpu") from None
    return chosen
